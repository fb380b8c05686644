//! A client that is killed (SIGABRT) as soon as it has reached a named step: `killed-client STEP DIR` renews,
//! `killed-client STEP DIR SERVER ROOT TOKEN ID` enrolls a device. `killed-client sync COUNT URL ROOT OUT ON-CHANGE PROBE` syncs CRLs,
//! and is killed at the so-manieth durable step. It ends with exit code 0 only if the step never came.

use std::{
    env, fs,
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, bail};
use enroll_client::{
    attester::{Attester, token::JoinToken},
    credential::LockedFolder,
    crl_sync::{CrlSync, Form, Source},
    enroll::{Enrollment, enroll},
    flow::{Observer, Step},
    identity::Kind,
    renew::renew,
    step,
    trust::{Roots, Trust},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [word, count, url, root, out, on_change, probe] = &arguments[..]
        && word == "sync"
    {
        let (count, reached) = (count.parse::<u32>()?, AtomicU32::new(0));
        step::watch(move |_| {
            if reached.fetch_add(1, Ordering::Relaxed) + 1 == count {
                process::abort();
            }
        });
        let source = Source::Http { url: url.parse()?, roots: Roots::from_pem(&fs::read(root)?)? };
        let (on_change, probe) = (Some(on_change.clone()), Some(probe.clone()));
        CrlSync { source, form: Form::Bundle, out: out.into(), on_change, probe, max_age: None, on_stale: None }
            .run()
            .await?;
        return Ok(());
    }
    let [step, dir, rest @ ..] = &arguments[..] else { bail!("see the top of the source") };
    let step = Step::ALL.into_iter().find(|known| format!("{known:?}") == *step).context("no such step")?;
    let kill = move |reached| {
        if reached == step {
            process::abort();
        }
    };
    let observer = Observer::new(&kill);
    let folder = LockedFolder::open(Path::new(dir))?;
    match rest {
        [] => renew(&folder, observer).await?,
        [server, root, token, id] => {
            let enrollment = Enrollment {
                server: server.parse()?,
                trust: Trust::Roots(Roots::from_pem(&fs::read(root)?)?),
                kind: Kind::Device,
                id: Some(id.parse()?),
                attester: Attester::Token(JoinToken::parse(&fs::read_to_string(token)?)?),
            };
            enroll(&folder, &enrollment, observer).await?
        }
        _ => bail!("see the top of the source"),
    };
    Ok(())
}
