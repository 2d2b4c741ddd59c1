//! IP addresses and ranges of them. An IPv4 address within IPv6, and one with a zone, is refused, as in the API server.

use core::net::{IpAddr, Ipv4Addr};
use std::fmt;

use super::{super::failure::Failure, Answer, Row, Value, mismatch};

pub(super) const ROWS: &[Row] = &[
    ("ip(string): ip", |args, _| ip(args)),
    ("isIP(string): bool", |args, _| is_ip(args)),
    ("ip.isCanonical(string): bool", |args, _| is_canonical(args)),
    (".family(ip): int", |args, _| of_ip(args, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
    (".isUnspecified(ip): bool", |args, _| of_ip(args, |ip| Value::Bool(ip.is_unspecified()))),
    (".isLoopback(ip): bool", |args, _| of_ip(args, |ip| Value::Bool(ip.is_loopback()))),
    (".isLinkLocalMulticast(ip): bool", |args, _| of_ip(args, |ip| Value::Bool(is_link_local_multicast(ip)))),
    (".isLinkLocalUnicast(ip): bool", |args, _| of_ip(args, |ip| Value::Bool(is_link_local(ip)))),
    (".isGlobalUnicast(ip): bool", |args, _| of_ip(args, |ip| Value::Bool(is_global_unicast(ip)))),
    ("cidr(string): cidr", |args, _| cidr(args)),
    ("isCIDR(string): bool", |args, _| is_cidr(args)),
    (".containsIP(cidr, ip): bool", |args, _| contains_ip(args)),
    (".containsIP(cidr, string): bool", |args, _| contains_ip(args)),
    (".containsCIDR(cidr, cidr): bool", |args, _| contains_cidr(args)),
    (".containsCIDR(cidr, string): bool", |args, _| contains_cidr(args)),
    (".ip(cidr): ip", |args, _| of_cidr(args, |cidr| Value::Ip(Ip(cidr.address)))),
    (".masked(cidr): cidr", |args, _| of_cidr(args, |cidr| Value::Cidr(cidr.masked()))),
    (".prefixLength(cidr): int", |args, _| of_cidr(args, |cidr| Value::Int(cidr.length.into()))),
];

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip(IpAddr);

/// An address and how many of its first bits the range shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    length: u8,
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn read_ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

impl Cidr {
    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address = read_ip(address)?;
        let plain = length == "0" || length.starts_with(|c: char| ('1'..='9').contains(&c));
        let length: u8 = length.parse().ok().filter(|_| plain)?;
        (u32::from(length) <= bits(address).1).then_some(Self { address, length })
    }

    fn masked(self) -> Self {
        let (value, width) = bits(self.address);
        let masked = value & !u128::MAX.checked_shr(u32::from(self.length) + 128 - width).unwrap_or(0);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(masked as u32)),
            IpAddr::V6(_) => IpAddr::V6(masked.into()),
        };
        Self { address, length: self.length }
    }

    fn contains(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && self.masked() == (Self { address: other.address, length: self.length }).masked()
    }
}

/// The address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !broadcast && !special && !is_link_local(address)
}

fn no_ip() -> Failure {
    Failure::of("ip", "not an IP address such as 10.0.0.1 or 2001:db8::1")
}

fn no_cidr() -> Failure {
    Failure::of("cidr", "not a range of addresses such as 10.0.0.0/8")
}

fn ip<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    read_ip(text).map(|address| Value::Ip(Ip(address))).ok_or_else(no_ip)
}

fn is_ip<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    Ok(Value::Bool(read_ip(text).is_some()))
}

/// Whether it is written as such addresses are written when they are made.
fn is_canonical<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    let address = read_ip(text).ok_or_else(no_ip)?;
    Ok(Value::Bool(address.to_string() == **text))
}

fn of_ip<'v>(args: &[Value<'v>], part: fn(IpAddr) -> Value<'static>) -> Answer<'v> {
    let [Value::Ip(ip)] = args else { return mismatch(args) };
    Ok(part(ip.0))
}

fn cidr<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    Cidr::read(text).map(Value::Cidr).ok_or_else(no_cidr)
}

fn is_cidr<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    Ok(Value::Bool(Cidr::read(text).is_some()))
}

fn of_cidr<'v>(args: &[Value<'v>], part: fn(Cidr) -> Value<'static>) -> Answer<'v> {
    let [Value::Cidr(cidr)] = args else { return mismatch(args) };
    Ok(part(*cidr))
}

fn contains_ip<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let (cidr, address) = match args {
        [Value::Cidr(cidr), Value::Ip(ip)] => (cidr, ip.0),
        [Value::Cidr(cidr), Value::String(text)] => (cidr, read_ip(text).ok_or_else(no_ip)?),
        _ => return mismatch(args),
    };
    let length = bits(address).1 as u8;
    Ok(Value::Bool(cidr.contains(Cidr { address, length })))
}

fn contains_cidr<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let (cidr, other) = match args {
        [Value::Cidr(cidr), Value::Cidr(other)] => (cidr, *other),
        [Value::Cidr(cidr), Value::String(text)] => (cidr, Cidr::read(text).ok_or_else(no_cidr)?),
        _ => return mismatch(args),
    };
    Ok(Value::Bool(cidr.contains(other)))
}
