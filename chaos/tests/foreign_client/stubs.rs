//! Stubs for Python, made from the repository's `.proto` files.

use std::fs;
use std::path::Path;

use anyhow::ensure;

use crate::python::{self, Needs, Python};

/// What the client needs.
pub(crate) const NEEDS: Needs = Needs {
    name: "foreign-client-1",
    requirements: &[
        "grpcio==1.85.1",
        "grpcio-tools==1.85.1",
        "grpcio-reflection==1.85.1",
        "grpcio-health-checking==1.85.1",
        "cryptography==50.0.2",
    ],
    imports: "import grpc, grpc_tools.protoc, grpc_reflection, grpc_health, cryptography",
};

/// Generates the stubs of all files under `protos` into `folder`.
pub(crate) async fn generate(python: &Python, protos: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(protos, protos, &mut files)?;
    ensure!(!files.is_empty(), "no .proto file under {}", protos.display());
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let mut args = vec!["-m".to_owned(), "grpc_tools.protoc".to_owned()];
    args.push(flag("proto_path", protos));
    args.push(flag("python_out", folder));
    args.push(flag("grpc_python_out", folder));
    python::run(python.command().args(args.iter().chain(&files))).await.map(drop)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}
