//! Lenient and strict spellings.

use super::*;

fn complaints(check: impl Fn(&Path<'_>, &mut FieldErrors)) -> Vec<String> {
    let mut errors = FieldErrors::new();
    check(&Path::new("ip"), &mut errors);
    errors.0.iter().map(|e| e.message.clone()).collect()
}

#[test]
fn addresses() {
    let lenient = |text| complaints(|p, e| validate_lenient(text, &[], p, e));
    let strict = |text| complaints(|p, e| validate(text, p, e));
    assert_eq!(lenient("10.0.0.1"), [""; 0]);
    assert_eq!(lenient("FE80:0::1"), [""; 0]);
    assert_eq!(strict("FE80:0::1"), [r#"Invalid value: "FE80:0::1": must be in canonical form ("fe80::1")"#]);
    assert_eq!(lenient("010.0.0.1"), [r#"Invalid value: "010.0.0.1": must not have leading 0s"#]);
    assert_eq!(lenient("::ffff:1.2.3.4").len(), 1);
    assert_eq!(lenient("1.2.3"), [format!("Invalid value: \"1.2.3\": {NOT_AN_IP}")]);
}

#[test]
fn blocks() {
    let lenient = |text| complaints(|p, e| validate_cidr_lenient(text, &[], p, e));
    assert_eq!(lenient("10.0.0.0/8"), [""; 0]);
    assert_eq!(
        lenient("10.0.0.1/8"),
        [r#"Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length"#]
    );
    assert_eq!(lenient("10.0.0.0/33").len(), 1);
    assert_eq!(lenient("10.0.0.0/08").len(), 1);
    assert_eq!(lenient("0.0.0.0/0"), [""; 0]);
}
