//! `--enrollments`: devices of all methods enroll, instead of renewing; and what a TPM costs its own device.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fleetca_proto::v1::Issued;
use fleetca_tests::{
    measure::{percentile, verify_plus_sign},
    simulator::{Device, Factory, Method, Ready, commands_alone},
    stranger,
};
use serde_json::{Value, json};

use super::{Load, Output, STREAMS};

/// So many TPMs are asked alone, one after the other.
const TPMS: usize = 9;

/// So many devices are made at a time: some of them start a TPM.
const CROWD: usize = 8;

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Registers new devices, lets them enroll together with those that have slept, so many in all, and then some with a TPM
/// one by one.
pub async fn run(load: &Load, factory: &Factory, slept: Vec<Device>, count: usize, output: Output) {
    accept_all(load, factory);
    let alone = (count..count + TPMS).map(|number| (number, Method::Tpm));
    let wanted = (0..count).map(|number| (number, Method::of(number)));
    let wanted = wanted.filter(|(_, method)| *method != Method::Previous).chain(alone).collect();
    let mut devices = make(load, factory, wanted);
    let alone = devices.split_off(count - slept.len());
    let ready = mix(count, devices, slept).map(Device::prepare).collect();
    let connection = &stranger::connect(&load.server).await;
    let work = |device: Ready| async move {
        let method = device.method();
        let _: Issued = device.enroll(connection).await.unwrap_or_else(|status| panic!("{method}: {status}"));
        method
    };
    let (mut phase, methods) = load.phase(load.in_flight.min(STREAMS), ready, work).await;
    let mut latencies: BTreeMap<Method, Vec<Duration>> = BTreeMap::new();
    for (method, latency) in methods.into_iter().zip(&phase.latencies) {
        latencies.entry(method).or_default().push(*latency);
    }

    let (mut whole, mut commands) = (Vec::new(), Vec::new());
    for device in alone {
        commands.push(commands_alone(device.tpm().expect("it has a TPM")));
        let begun = Instant::now();
        device.prepare().enroll(connection).await.expect("a certificate");
        whole.push(begun.elapsed());
    }
    let (whole, commands) = (percentile(&mut whole, 0.5), percentile(&mut commands, 0.5));

    let limit = tokio::task::spawn_blocking(verify_plus_sign).await.expect("it is measured").as_secs_f64() * 1e6;
    let per_second = count as f64 / phase.wall.as_secs_f64();
    match output {
        Output::Json => {
            let methods: serde_json::Map<String, Value> = latencies
                .iter_mut()
                .map(|(method, latencies)| {
                    let (p50, p99) = (ms(percentile(latencies, 0.5)), ms(percentile(latencies, 0.99)));
                    let figures = json!({"enrollments": latencies.len(), "latency_p50_ms": p50, "latency_p99_ms": p99});
                    (method.to_string(), figures)
                })
                .collect();
            let result = json!({
                "enrollments": count, "in_flight": load.in_flight.min(STREAMS), "enrollments_per_s": per_second,
                "latency_p50_ms": phase.latency_ms(0.5), "latency_p99_ms": phase.latency_ms(0.99),
                "enroll_cpu_us": phase.cpu_us(), "methods": methods, "verify_plus_sign_us": limit,
                "tpm_enrollment_ms": ms(whole), "tpm_commands_ms": ms(commands),
                "tpm_ratio": whole.as_secs_f64() / commands.as_secs_f64(),
            });
            println!("{result}");
        }
        Output::Table => {
            println!("{count} enrollments, {} at the same time", load.in_flight.min(STREAMS));
            println!("enrollments     {per_second:8.0} /s");
            println!("server CPU      {:9.1} µs      each; verify + sign {limit:.1} µs", phase.cpu_us());
            println!("                      number     p50 ms     p99 ms");
            for (method, latencies) in &mut latencies {
                let (p50, p99) = (ms(percentile(latencies, 0.5)), ms(percentile(latencies, 0.99)));
                println!("{method:<15} {:12} {p50:10.2} {p99:10.2}", latencies.len());
            }
            println!("one with a TPM  {:9.2} ms      alone, from its keys to its certificate", ms(whole));
            println!("its commands    {:9.2} ms      without a server", ms(commands));
            println!("ratio           {:9.2}", whole.as_secs_f64() / commands.as_secs_f64());
        }
    }
}

/// The fleet takes all methods, and the maker's devices.
fn accept_all(load: &Load, factory: &Factory) {
    let file = load.server.scratch().join("maker.pem");
    std::fs::write(&file, factory.root()).expect("a root is written");
    let file = file.to_str().expect("temporary folders have names in UTF-8");
    let methods = "token,registered-key,factory,tpm";
    load.server.admin().run(&["fleet", "set", "load", "--attest", methods, "--factory-roots", file]);
}

/// New devices and those that have slept, each where its number puts it.
fn mix(count: usize, new: Vec<Device>, slept: Vec<Device>) -> impl Iterator<Item = Device> {
    let (mut new, mut slept) = (new.into_iter(), slept.into_iter());
    let next = move |number| match Method::of(number) {
        Method::Previous => slept.next(),
        _ => new.next(),
    };
    (0..count).map(next).map(|device| device.expect("there is one a number"))
}

/// Makes devices, and registers those that have to be.
fn make(load: &Load, factory: &Factory, mut wanted: Vec<(usize, Method)>) -> Vec<Device> {
    let mut devices = Vec::with_capacity(wanted.len());
    let mut rows = String::new();
    while !wanted.is_empty() {
        let rest = wanted.split_off(wanted.len().min(CROWD));
        let make = |(number, method)| {
            factory.device(format!("device-{number}"), method).expect("swtpm is there, for devices that have a TPM")
        };
        let made: Vec<_> = std::thread::scope(|scope| {
            let making: Vec<_> = wanted.into_iter().map(|one| scope.spawn(move || make(one))).collect();
            making.into_iter().map(|one| one.join().expect("a device is made")).collect()
        });
        for (device, row) in made {
            row.into_iter().for_each(|row| rows += &format!("{row}\n"));
            devices.push(device);
        }
        wanted = rest;
    }
    let file = load.server.scratch().join("devices.jsonl");
    std::fs::write(&file, rows).expect("rows are written");
    let file = file.to_str().expect("temporary folders have names in UTF-8");
    load.server.admin().run(&["device", "register", "--fleet", "load", "--from", file]);
    devices
}
