//! What a plane counts, read off its metrics.

use super::{DrillError, Field};

impl Field<'_> {
    /// The sum of a metric over its labels, of those lines that hold all the words; none when the plane does not export
    /// it.
    pub(super) async fn metric(
        &self,
        server: &str,
        name: &str,
        words: &[&str],
    ) -> Result<Option<f64>, DrillError> {
        let (_, text) = self.platform.stack().ask_plane(server, "GET", "/metrics").await?;
        Ok(sum(&text, name, words))
    }
}

/// The sum of a metric's lines that hold all the words; none when there is no such line.
fn sum(text: &str, name: &str, words: &[&str]) -> Option<f64> {
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    };
    let lines = text.lines().filter(of_name);
    let lines = lines.filter(|line| words.iter().all(|word| line.contains(word)));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_metric_add_up() {
        let text = "# HELP a_total Some\na_total{store=\"redis\"} 2\na_total{store=\"postgres\"} 3\n\
                    a_total_more 7\nb 1.5\n";
        let rows: [(&str, &[&str], Option<f64>); 5] = [
            ("a_total", &[], Some(5.0)),
            ("a_total", &["redis"], Some(2.0)),
            ("a_total", &["etcd"], None),
            ("b", &[], Some(1.5)),
            ("c", &[], None),
        ];
        for (name, words, expected) in rows {
            assert_eq!(sum(text, name, words), expected, "{name} {words:?}");
        }
    }
}
