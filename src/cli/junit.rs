//! Results as JUnit XML, which CI systems read.

use std::fmt::Write as _;

/// One test of a suite.
pub(super) struct TestCase {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: usize,
    /// Why it failed; nothing: it passed.
    pub(super) failure: Option<String>,
}

/// The suite as a document.
pub(super) fn document(suite: &str, cases: &[TestCase]) -> String {
    let (tests, failures) = (cases.len(), cases.iter().filter(|case| case.failure.is_some()).count());
    let suite = escaped(suite);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let totals = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\"");
    xml += &format!("<testsuites {totals}>\n  <testsuite name=\"{suite}\" {totals}>\n");
    for TestCase { name, file, line, failure } in cases {
        let (name, file) = (escaped(name), escaped(file));
        let _ = write!(xml, "    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{line}\"");
        match failure {
            None => xml += "/>\n",
            Some(why) => {
                let first = escaped(why.lines().next().unwrap_or_default());
                let _ =
                    writeln!(xml, ">\n      <failure message=\"{first}\">{}</failure>\n    </testcase>", escaped(why));
            }
        }
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// What XML 1.0 cannot hold is left out, and what means something to it is written otherwise.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for one in text.chars() {
        match one {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(one),
            one if one.is_control() || matches!(one, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            one => out.push(one),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_xml_is_written_otherwise() {
        let failed = TestCase {
            name: "a < b & \"c\"".into(),
            file: "x.yaml".into(),
            line: 3,
            failure: Some("one\u{1b}[31m\n]]>two".into()),
        };
        let passed = TestCase { name: "d".into(), file: "x.yaml".into(), line: 9, failure: None };
        let xml = document("s", &[failed, passed]);
        assert!(xml.contains("<testsuite name=\"s\" tests=\"2\" failures=\"1\" errors=\"0\">"), "{xml}");
        assert!(xml.contains("<testcase name=\"a &lt; b &amp; &quot;c&quot;\" classname=\"x.yaml\""), "{xml}");
        assert!(xml.contains("<failure message=\"one [31m\">one [31m\n]]&gt;two</failure>"), "{xml}");
        assert!(xml.contains("<testcase name=\"d\" classname=\"x.yaml\" file=\"x.yaml\" line=\"9\"/>"), "{xml}");
    }
}
