//! The lines of a container as the log API gives them with `timestamps=true`: where they end, when they were written, and which of them were looked at before.
//!
//! Nothing here is decoded that need not be: of most lines only their end is looked for.

use std::str;

use k8s_openapi::jiff::Timestamp;

/// Bytes of the longest time with the space behind it: `2026-11-30T08:35:05.123456789+02:00 `.
const STAMP: usize = 40;
/// Matching lines of one and the same time that are told from each other, where their text is the same too. Runtimes give each line a time of its own, or each
/// 8 KiB that they read.
const SAME_TIME: usize = 4096;

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// When it was written, as it stands there; empty for what no container has written: words of the kubelet.
    pub(super) stamp: &'a [u8],
    /// The line, without its end.
    pub(super) text: &'a [u8],
    /// It goes on, longer than is kept.
    pub(super) truncated: bool,
}

/// Parts what comes into lines, each of so many bytes at most.
pub(super) struct Decoder {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// It was longer than is kept.
    longer: bool,
    max: usize,
}

impl Decoder {
    pub(super) fn new(max: usize) -> Self {
        Self { partial: Vec::new(), longer: false, max }
    }

    /// Gives every line that ends in these bytes.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.partial.is_empty() {
                each(parted(line, self.max, false));
            } else {
                self.keep(line);
                self.end(&mut each);
            }
            rest = after;
        }
        self.keep(rest);
    }

    /// Gives the last line, if it has no end.
    pub(super) fn end(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            each(parted(&self.partial, self.max, self.longer));
        }
        self.partial.clear();
        self.longer = false;
    }

    fn keep(&mut self, part: &[u8]) {
        let room = (self.max + STAMP).saturating_sub(self.partial.len());
        self.longer |= part.len() > room;
        self.partial.extend_from_slice(&part[..part.len().min(room)]);
    }
}

fn parted(line: &[u8], max: usize, longer: bool) -> Line<'_> {
    let space = line.iter().take(STAMP).position(|byte| *byte == b' ');
    let is_stamp = |at: &usize| *at >= 20 && line[4] == b'-' && line[10] == b'T';
    // Of an empty line some kubelets give the time only.
    let whole = (line.len() < STAMP).then_some(line.len());
    let (stamp, text) = match space.or(whole).filter(is_stamp) {
        Some(at) => (&line[..at], line.get(at + 1..).unwrap_or_default()),
        None => (&line[..0], line),
    };
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Line { stamp, text: &text[..text.len().min(max)], truncated: longer || text.len() > max }
}

/// When a line was written.
pub(super) fn time(stamp: &[u8]) -> Option<Timestamp> {
    str::from_utf8(stamp).ok()?.parse().ok()
}

/// Up to where the lines of a container were looked at: the time of the last one, and how many lines of that time there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) lines: u32,
}

/// Which lines are new. The log API begins with the whole second of the time that is asked for.
pub(super) struct Cursor {
    /// The time of the last line, as it stands there, and how many lines of it there were.
    stamp: Vec<u8>,
    lines: u32,
    /// What is looked for: new lines come after it.
    before: Option<Place>,
    /// Of the matching lines of that time, the hash of each and how many had it.
    same: Vec<(u64, u32)>,
}

impl Cursor {
    /// All lines after the place are new; without one, all.
    pub(super) fn after(place: Option<Place>) -> Self {
        Self { stamp: Vec::new(), lines: 0, before: place, same: Vec::new() }
    }

    /// Goes to the next line: whether it is new.
    pub(super) fn pass(&mut self, stamp: &[u8]) -> bool {
        if stamp == self.stamp {
            self.lines = self.lines.saturating_add(1);
        } else {
            self.stamp.clear();
            self.stamp.extend_from_slice(stamp);
            (self.lines, self.same) = (1, Vec::new());
        }
        let (Some(before), Some(at)) = (self.before, self.before.and_then(|_| time(stamp))) else { return true };
        let new = at > before.at || (at == before.at && self.lines > before.lines);
        if new {
            self.before = None;
        }
        new
    }

    /// Which of the lines of its time that have this hash it is: 1 for the first.
    pub(super) fn nth(&mut self, hash: u64) -> u32 {
        if let Some((_, nth)) = self.same.iter_mut().find(|(known, _)| *known == hash) {
            *nth = nth.saturating_add(1);
            return *nth;
        }
        if self.same.len() < SAME_TIME {
            self.same.push((hash, 1));
        }
        1
    }

    /// Up to where lines were looked at; nothing before the first new one.
    pub(super) fn place(&self) -> Option<Place> {
        if self.before.is_some() {
            return None;
        }
        Some(Place { at: time(&self.stamp)?, lines: self.lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these parts, in short.
    fn read(max: usize, parts: &[&str]) -> Vec<String> {
        let (mut decoder, mut lines) = (Decoder::new(max), Vec::new());
        let short = |line: Line<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let stamp = text(line.stamp);
            let second = stamp.get(17..).unwrap_or("none").to_owned();
            format!("{second} {}{}", text(line.text), if line.truncated { "…" } else { "" })
        };
        for part in parts {
            decoder.push(part.as_bytes(), |line| lines.push(short(line)));
        }
        decoder.end(|line| lines.push(format!("end {}", short(line))));
        lines
    }

    #[test]
    fn lines_are_parted_wherever_what_comes_is_cut() {
        let whole = "2026-11-30T08:00:01.5Z one two\n2026-11-30T08:00:02+01:00 \n2026-11-30T08:00:03Z three\r\n";
        let expected = ["01.5Z one two", "02+01:00 ", "03Z three"];
        assert_eq!(read(100, &[whole]), expected);
        for at in 1..whole.len() {
            let (first, second) = whole.split_at(at);
            assert_eq!(read(100, &[first, second]), expected, "cut at {at}");
        }
        let each: Vec<String> = whole.chars().map(String::from).collect();
        assert_eq!(read(100, &each.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_line_without_an_end_comes_last() {
        assert_eq!(read(100, &["2026-11-30T08:00:01Z a\n2026-11-30T08:00:02Z b"]), ["01Z a", "end 02Z b"]);
    }

    #[test]
    fn of_a_long_line_so_much_is_kept_and_the_next_is_whole() {
        let long = format!("2026-11-30T08:00:01Z {}\n2026-11-30T08:00:02Z ok\n", "x".repeat(5000));
        let expected = ["01Z xxxx…", "02Z ok"];
        assert_eq!(read(4, &[&long]), expected);
        let parts: Vec<&str> = (0..long.len()).step_by(7).map(|at| &long[at..(at + 7).min(long.len())]).collect();
        assert_eq!(read(4, &parts), expected);
        let mut decoder = Decoder::new(4);
        parts.iter().for_each(|part| {
            decoder.push(part.as_bytes(), |_| {});
            assert!(decoder.partial.len() <= 4 + STAMP, "it takes no more memory than that");
        });
        assert_eq!(read(4, &["2026-11-30T08:00:01Z four\n"]), ["01Z four"], "it is not longer");
    }

    #[test]
    fn what_has_no_time_is_no_line_of_a_container() {
        let said = "unable to retrieve container logs for containerd://4f\n";
        assert_eq!(read(100, &[said]), [format!("none {}", said.trim())]);
        assert_eq!(read(100, &["\n", "2026-11-30T08:00:02Z\n"]), ["none ", "02Z "]);
    }

    fn passes(place: Option<Place>, stamps: &[&str]) -> (Vec<bool>, Option<Place>) {
        let mut cursor = Cursor::after(place);
        let passes = stamps.iter().map(|stamp| cursor.pass(stamp.as_bytes())).collect();
        (passes, cursor.place())
    }

    #[test]
    fn after_a_place_the_lines_of_its_second_that_came_before_are_not_new() {
        let stamps = ["2026-11-30T08:00:01.1Z", "2026-11-30T08:00:01.2Z", "2026-11-30T08:00:01.2Z"];
        let (all, place) = passes(None, &stamps);
        let place = place.expect("a place");
        assert_eq!((all, place.lines), (vec![true; 3], 2));
        let more = [stamps.as_slice(), &["2026-11-30T08:00:01.2Z", "2026-11-30T08:00:01.2Z"]].concat();
        assert_eq!(passes(Some(place), &more).0, [false, false, false, true, true], "also of the very same time");
        assert_eq!(passes(Some(place), &stamps).1, None, "it stays where it was");
        // The same instant, written in another zone, after the clocks have changed.
        let zone = ["2026-11-30T10:00:01.2+02:00", "2026-11-30T10:00:01.2+02:00", "2026-11-30T10:00:01.3+02:00"];
        assert_eq!(passes(Some(place), &zone).0, [false, false, true]);
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_line_that_comes() {
        let (passes, _) = passes(None, &["2026-11-30T08:00:09Z", "2026-11-30T07:00:00Z"]);
        assert_eq!(passes, [true, true]);
    }

    #[test]
    fn the_same_text_at_the_same_time_is_counted() {
        let mut cursor = Cursor::after(None);
        cursor.pass(b"2026-11-30T08:00:01Z");
        assert_eq!([cursor.nth(7), cursor.nth(8), cursor.nth(7)], [1, 1, 2]);
        cursor.pass(b"2026-11-30T08:00:01Z");
        assert_eq!(cursor.nth(7), 3);
        cursor.pass(b"2026-11-30T08:00:02Z");
        assert_eq!(cursor.nth(7), 1);
    }
}
