//! The shared memory that a killed Postgres leaves behind. It stays in the kernel until the machine is started anew; of
//! such segments there may be a few thousand, and then no Postgres starts any more, anywhere on it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Removes what the Postgres of this folder left, if it did. Only for a server that is known to be down.
pub(crate) fn remove_left(folder: &Path) {
    let left = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    if let Some(id) = id_in(&left) {
        let mut remove = Command::new("ipcrm");
        remove.args(["-m", id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where that cannot be done a few bytes stay.
        remove.status().ok();
    }
}

/// The segment's id: the second word of the seventh line.
fn id_in(pid_file: &str) -> Option<&str> {
    let id = pid_file.lines().nth(6)?.split_whitespace().nth(1)?;
    id.bytes().all(|byte| byte.is_ascii_digit()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::id_in;

    #[test]
    fn the_id_stands_where_postgres_writes_it() {
        let file =
            "26491\n/data\n1795354607\n22008\n/sockets\n127.0.0.1\n 10116376     98305\nready   \n";
        assert_eq!(id_in(file), Some("98305"));
        for broken in
            ["", "26491\n/data\n", &file.replace("98305", "-a"), &file.replace("     98305", "")]
        {
            assert_eq!(id_in(broken), None, "{broken:?}");
        }
    }
}
