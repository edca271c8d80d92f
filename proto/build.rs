//! Generates the messages and services from the `.proto` files, without protoc.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 7] = [
    "floodgate/admin/v1/admin.proto",
    "floodgate/admin/v1/token.proto",
    "floodgate/cell/v1/decisions.proto",
    "floodgate/cell/v1/link.proto",
    "floodgate/events/v1/ledger.proto",
    "floodgate/fleet/v1/fleet.proto",
    "floodgate/storefront/v1/storefront.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // Reflection serves the whole closure, with the options that say how calls look over HTTP; Rust code is made for what
    // is ours, and for Money.
    fs::write(out.join("floodgate.descriptors"), compiler.encode_file_descriptor_set())?;
    let mut set = compiler.file_descriptor_set();
    set.file.retain(|file| !file.package().starts_with("google.api"));
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::StrictCodec")
        .extern_path(".floodgate.cell.v1.Frame", "crate::frame::Frame")
        .bytes(".floodgate.cell.v1.Probe")
        .bytes(".floodgate.cell.v1.Call")
        .bytes(".floodgate.cell.v1.Order")
        .bytes(".floodgate.fleet.v1.ProbeRequest")
        .bytes(".floodgate.fleet.v1.ProbeResponse")
        .compile_fds(set)?;
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
