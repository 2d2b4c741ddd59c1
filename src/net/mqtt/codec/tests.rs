//! Packets that brokers send, as bytes.

use super::*;

fn whole(bytes: &[u8]) -> Frame {
    Frame::Whole(BytesMut::from(bytes))
}

/// A message of MQTT 5 with packet identifier 7 and so many user properties of five bytes.
fn message(properties: usize) -> Vec<u8> {
    let length = |length: usize| -> [u8; 4] {
        std::array::from_fn(|at| ((length >> (7 * at)) & 0x7f) as u8 | if at < 3 { 0x80 } else { 0 })
    };
    let all = properties * 5;
    let mut bytes = vec![0x32];
    bytes.extend(length(3 + 2 + 4 + all + 1));
    bytes.extend([0, 1, b'a', 0, 7]);
    bytes.extend(length(all));
    bytes.extend([0x26, 0, 0, 0, 0].repeat(properties));
    bytes.push(b'x');
    bytes
}

#[test]
fn properties_count_as_what_they_take_and_too_many_are_not_read() {
    let Ok(Incoming::Message(read)) = read(Version::V5, whole(&message(1_000))) else { panic!("a message") };
    assert_eq!((read.properties.user.len(), read.payload.as_ref()), (1_000, b"x".as_slice()));
    assert!(read.size >= 1_000 * 100, "{}", read.size);
    let many = MAX_PROPERTIES / 5 + 1;
    let unread = super::read(Version::V5, whole(&message(many))).expect("a packet");
    assert_eq!(unread, Incoming::Unread(Receipt::Acknowledge(7), Ok(many * 5)));
}

#[test]
fn what_a_broker_takes_is_what_it_says_or_all_there_is() {
    let bytes = [0x20, 15, 0, 0, 12, 0x21, 0, 20, 0x24, 1, 0x25, 0, 0x27, 0, 0, 4, 0];
    let (_, _, limits) = read_connack(Version::V5, whole(&bytes)).expect("taken");
    assert_eq!(limits, Limits { in_flight: 20, packet: Some(1024), qos: Qos::AtLeastOnce, retain: false });
    let (_, _, limits) = read_connack(Version::V311, whole(&[0x20, 2, 0, 0])).expect("taken");
    assert_eq!(limits, Limits::default());
}

#[test]
fn a_broker_that_knows_no_mqtt_5_is_told_of_as_such() {
    let error = read_connack(Version::V5, whole(&[0x20, 2, 0, 1])).expect_err("refused");
    assert!(matches!(&error, Error::Refused(words) if words.code.contains("protocol version")), "{error}");
}
