//! Migrations are embedded by a macro that cannot say what it reads.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
