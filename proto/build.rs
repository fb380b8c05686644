//! Compiles the `.proto` files with protox, so that nobody needs a protoc.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 4] = [
    "fleetca/v1/enrollment.proto",
    "fleetca/v1/renewal.proto",
    "fleetca/v1/revocation.proto",
    "fleetca/v1/operator.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=fleetca");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
