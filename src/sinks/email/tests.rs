use super::*;
use crate::sinks::{
    build,
    testing::{notification, sink},
};

fn email(more: &str) -> Result<Email, BuildError> {
    let spec = format!(
        r#"{{"email": {{"server": "mail.shop.svc", "from": "Alerts <alerts@example.com>", "to": ["a@example.com", "Bär <b@example.com>"]{more}}}}}"#
    );
    Email::new(sink(&spec).email.as_ref().expect("an email"))
}

fn written(notification: &Notification) -> String {
    let mail = email("").expect("a sink").message(notification).expect("a mail");
    String::from_utf8(mail.formatted()).expect("text")
}

fn header<'m>(mail: &'m str, name: &str) -> &'m str {
    let (headers, _) = mail.split_once("\r\n\r\n").expect("headers");
    headers.split("\r\n").find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default()
}

#[test]
fn a_mail_is_the_same_whenever_it_is_sent_and_mails_of_an_incident_are_one_thread() {
    let first = written(&notification());
    let again = written(&Notification { again: true, ..notification() });
    let next = written(&Notification { id: "f2-tell".into(), ..notification() });
    let other = written(&Notification { incident: "other".into(), ..notification() });
    assert_eq!(header(&first, "Message-ID"), "<0123456789abcdef0123-tell@example.com>");
    assert_eq!(header(&first, "Message-ID"), header(&again, "Message-ID"));
    assert_ne!(header(&first, "Message-ID"), header(&next, "Message-ID"));
    assert_eq!(header(&first, "References"), header(&next, "References"));
    assert_ne!(header(&first, "References"), header(&other, "References"));
    assert_eq!(header(&first, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(&first, "Subject"), "web keeps crashing");
    assert!(first.contains("Back-off\r\n\r\n-- \r\nSeverity: Warning\r\nRule: shop/web-crashloop"), "{first}");
}

#[test]
fn texts_of_events_become_no_header_and_no_recipient() {
    let evil = "x\r\nBcc: evil@example.org\r\n\r\nbody\u{0}\u{7f}";
    let plain = written(&notification());
    let names = |mail: &str| {
        let (headers, _) = mail.split_once("\r\n\r\n").expect("headers");
        let lines = headers.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for notification in [
        Notification { title: evil.into(), ..notification() },
        Notification { title: "ü".repeat(4096), ..notification() },
        Notification { incident: evil.into(), ..notification() },
        Notification { text: format!("{evil}\r\n.\r\nQUIT\r\n"), ..notification() },
    ] {
        let mail = written(&notification);
        let only_known = |name: &String| names(&plain).contains(name);
        assert!(names(&mail).iter().all(only_known), "{mail}");
        assert!(mail.split_once("\r\n\r\n").expect("headers").0.split("\r\n").all(|line| line.len() <= 998));
        let sent = email("").expect("a sink").message(&notification).expect("a mail");
        assert_eq!(sent.envelope().to().len(), 2);
    }
}

#[test]
fn what_is_no_address_is_refused_with_its_place() {
    for (more, fault) in [
        (
            r#", "security": "None", "login": {"username": "u", "passwordSecretRef": {"name": "s", "key": "p"}}"#,
            "set security to StartTls or Tls",
        ),
        (r#", "security": "Tls", "login": {"username": "u", "passwordSecretRef": {"name": "s", "key": "p"}}"#, ""),
    ] {
        let said = email(more).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(said.is_empty(), fault.is_empty(), "{said}");
        assert!(said.contains(fault), "{said}");
    }
    let spec = r#"{"email": {"server": "a:99999", "from": "nobody", "to": ["x y"]}}"#;
    let said = build(&sink(spec)).err().expect("refused").to_string();
    assert!(said.contains("email.from") && said.contains("email.to[0]") && said.contains("email.server"), "{said}");
}
