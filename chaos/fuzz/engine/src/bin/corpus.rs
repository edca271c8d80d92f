//! The corpus and libFuzzer's folders: `corpus names`, `corpus unpack TARGET FOLDER`, `corpus pack TARGET FOLDER`.

use std::path::Path;
use std::{env, fs, io};

use floodgate_fuzz::{TARGETS, Target, corpus};

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["names"] => {
            for target in TARGETS {
                println!("{} {}", target.name, target.bytes_max);
            }
            Ok(())
        }
        ["unpack", target, folder] => unpack(named(target)?, Path::new(folder)),
        ["pack", target, folder] => corpus::write(named(target)?, found_in(Path::new(folder))?),
        _ => Err(io::Error::other("names, unpack TARGET FOLDER or pack TARGET FOLDER")),
    }
}

fn named(name: &str) -> io::Result<&'static Target> {
    floodgate_fuzz::target(name).ok_or_else(|| io::Error::other(format!("no target {name}")))
}

/// Writes each input of a corpus, and each seed of today, into a file of its own.
fn unpack(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let kept = corpus::read(target).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    })?;
    let seeds = (target.seeds)().into_iter().map(|(_, bytes)| bytes);
    for (number, bytes) in kept.into_iter().map(|input| input.bytes).chain(seeds).enumerate() {
        fs::write(folder.join(format!("kept-{number}")), bytes)?;
    }
    Ok(())
}

fn found_in(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect()
}
