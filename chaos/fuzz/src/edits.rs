//! Edits: an input as a list of small changes to a genuine text, for formats in which bytes at random are refused at the
//! first look.

/// Changes of one text.
const EDITS_MAX: usize = 32;
/// Bytes of an edit: what it is, where (two bytes), and how.
const EDIT_BYTES: usize = 4;

/// The text after the edits; `others` are further genuine texts, whose lines may be put in.
pub(crate) fn edited(text: &str, others: &[&str], edits: &[u8]) -> String {
    let mut lines: Vec<Vec<u8>> =
        text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    for edit in edits.chunks_exact(EDIT_BYTES).take(EDITS_MAX) {
        let &[kind, high, low, how] = edit else { continue };
        if lines.is_empty() {
            break;
        }
        let place = usize::from(u16::from_be_bytes([high, low]));
        let (line, other) = (place % lines.len(), usize::from(how) % lines.len());
        match kind % 8 {
            0 => drop(lines.remove(line)),
            1 => lines.swap(line, other),
            2 => lines.insert(other, lines[line].clone()),
            3 => {
                let all: Vec<_> = others.iter().flat_map(|one| one.split_inclusive('\n')).collect();
                if let Some(strange) = all.get(place.checked_rem(all.len()).unwrap_or(0)) {
                    lines.insert(other, strange.as_bytes().to_vec());
                }
            }
            kind => {
                let mut bytes = lines.concat();
                within_a_line(&mut bytes, kind, place, how);
                lines = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            }
        }
    }
    String::from_utf8_lossy(&lines.concat()).into_owned()
}

fn within_a_line(bytes: &mut Vec<u8>, kind: u8, place: usize, how: u8) {
    let at = place % bytes.len();
    match kind {
        4 => bytes[at] ^= 1 << (how % 8),
        5 => bytes[at] = how,
        6 => drop(bytes.drain(at..bytes.len().min(at + usize::from(how)))),
        _ => bytes.insert(at, how),
    }
}
