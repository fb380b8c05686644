//! `--wait`: after the receipt, until the gateways have loaded it.

use std::time::Duration;

use clap::Args;
use fleetca_proto::v1::{CrlReceipt, WaitForGatewaysRequest, operator_client::OperatorClient};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::cli::{CommandError, Session, duration, loaded::LoadedAt, output::Format, receipt::InForce};

/// How long one call waits: less than the server allows, and than the connection takes for dead.
const CALL: Duration = Duration::from_secs(20);

#[derive(Args, Debug, Default)]
pub(super) struct Wait {
    /// Then wait until the gateways that are connected have loaded it, 30s where no time is said; exit code 3 if some have not
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = duration::parse
    )]
    wait: Option<Duration>,
}

impl Wait {
    /// Tells of the receipt, and of the gateways.
    pub(super) async fn after(
        self,
        operator: &mut OperatorClient<Channel>,
        crls: Vec<CrlReceipt>,
        receipt: impl InForce,
        session: &Session,
    ) -> Result<(), CommandError> {
        let output = session.output();
        let whole = match receipt.unreadable() {
            0 => Ok(()),
            rows => Err(CommandError::PassedOver(rows)),
        };
        let Some(patience) = self.wait else {
            return output.told(&receipt, |_| receipt.words()).and(whole);
        };
        // People see the receipt at once, and programs even where the wait fails.
        if output.format() == Format::Table {
            output.told(&receipt, |_| receipt.words())?;
        }
        let request = WaitForGatewaysRequest { crls, patience: None };
        let waited = wait(operator, request, patience).await;
        let (loaded, failure) = match waited {
            Ok(loaded) if loaded.missing() == 0 => (Some(loaded), None),
            Ok(loaded) => {
                let failure = CommandError::Behind { missing: loaded.missing(), gateways: loaded.gateways() };
                (Some(loaded), Some(failure))
            }
            Err(failure) => (None, Some(failure)),
        };
        match (output.format(), &loaded) {
            (Format::Table, Some(loaded)) => output.write(&format!("{}\n", loaded.words()))?,
            (Format::Table, None) => {}
            (Format::Json, _) => output.told(&receipt.loaded(loaded), |_| String::new())?,
        }
        whole.and(failure.map_or(Ok(()), Err))
    }
}

/// As long as it takes, or as there is patience: a call after another.
async fn wait(
    operator: &mut OperatorClient<Channel>,
    request: WaitForGatewaysRequest,
    patience: Duration,
) -> Result<LoadedAt, CommandError> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(CALL);
        let patience = prost_types::Duration::try_from(left).ok();
        let request = WaitForGatewaysRequest { patience, ..request.clone() };
        let loaded = LoadedAt::from(operator.wait_for_gateways(request).await?.into_inner());
        if loaded.missing() == 0 || Instant::now() >= end {
            return Ok(loaded);
        }
    }
}
