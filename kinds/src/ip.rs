//! IP addresses and CIDR blocks, with the leniency and the complaints of upstream.
//!
//! Old fields accept any spelling but leading zeros and IPv4-mapped IPv6; new fields want the canonical one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::field::{FieldErrors, Path};

#[cfg(test)]
mod tests;

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Parses an address; leading zeros in IPv4 octets are ignored, as upstream's sloppy parser does.
pub fn parse(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let octets: Vec<u8> = text
        .split('.')
        .map(|octet| {
            let digits = !octet.is_empty() && octet.bytes().all(|c| c.is_ascii_digit());
            digits.then(|| octet.parse().ok()).flatten()
        })
        .collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

/// Validates an address in an old field. Values in `old` are accepted as they are.
pub fn validate_lenient(text: &str, old: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    if !old.contains(&text) {
        validate_strict(text, path, errors);
    }
}

/// Validates an address in a new field: it must also be spelled canonically.
pub fn validate(text: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let before = errors.0.len();
    let Some(ip) = validate_strict(text, path, errors) else {
        return;
    };
    let canonical = go_string(ip);
    if errors.0.len() == before && canonical != text {
        let detail = format!("must be in canonical form ({canonical:?})");
        errors.invalid(path, text, &detail);
    }
}

fn validate_strict(text: &str, path: &Path<'_>, errors: &mut FieldErrors) -> Option<IpAddr> {
    let Some(ip) = parse(text) else {
        errors.invalid(path, text, NOT_AN_IP);
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        errors.invalid(path, text, "must not have leading 0s");
    }
    if is_mapped(ip) {
        errors.invalid(path, text, "must not be an IPv4-mapped IPv6 address");
    }
    Some(ip)
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// An address as Go prints it: an IPv4-mapped one prints as IPv4.
fn go_string(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        IpAddr::V4(v4) => v4.to_string(),
    }
}

/// Validates a CIDR block in an old field. Values in `old` are accepted as they are.
pub fn validate_cidr_lenient(text: &str, old: &[&str], path: &Path<'_>, errors: &mut FieldErrors) {
    if !old.contains(&text) {
        validate_cidr_strict(text, path, errors);
    }
}

/// Validates a CIDR block in a new field: it must also be spelled canonically.
pub fn validate_cidr(text: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let before = errors.0.len();
    let Some((ip, bits)) = validate_cidr_strict(text, path, errors) else {
        return;
    };
    let canonical = format!("{}/{bits}", go_string(masked(ip, bits)));
    if errors.0.len() == before && canonical != text {
        let detail = format!("must be in canonical form ({canonical:?})");
        errors.invalid(path, text, &detail);
    }
}

fn validate_cidr_strict(text: &str, path: &Path<'_>, errors: &mut FieldErrors) -> Option<(IpAddr, u8)> {
    let Some((ip, bits)) = parse_cidr(text) else {
        errors.invalid(path, text, NOT_A_CIDR);
        return None;
    };
    let (address, prefix) = text.split_once('/')?;
    let zero_padded = prefix.len() > 1 && prefix.starts_with('0');
    if address.parse::<IpAddr>().is_err() || zero_padded {
        errors.invalid(path, text, "must not have leading 0s in IP or prefix length");
    } else if is_mapped(ip) {
        errors.invalid(path, text, "must not have an IPv4-mapped IPv6 address");
    } else if masked(ip, bits) != ip {
        errors.invalid(path, text, "must not have bits set beyond the prefix length");
    }
    Some((ip, bits))
}

/// Parses `address/bits`.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let ip = parse(address)?;
    let digits = !bits.is_empty() && bits.bytes().all(|c| c.is_ascii_digit());
    let bits: u8 = digits.then(|| bits.parse().ok()).flatten()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    (bits <= max).then_some((ip, bits))
}

/// Whether a block lies in another one and is smaller.
pub fn is_within((ip, bits): (IpAddr, u8), (whole, whole_bits): (IpAddr, u8)) -> bool {
    let same_family = ip.is_ipv4() == whole.is_ipv4();
    same_family && bits > whole_bits && masked(ip, whole_bits) == masked(whole, whole_bits)
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
        }
    }
}

/// `IPv4` or `IPv6`; None when the text is no address.
pub fn family(text: &str) -> Option<&'static str> {
    match parse(text)? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

/// Whether the addresses hold both families.
pub fn is_dual_stack<'a>(addresses: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut v4, mut v6) = (false, false);
    for address in addresses {
        v4 |= family(address) == Some("IPv4");
        v6 |= family(address) == Some("IPv6");
    }
    v4 && v6
}
