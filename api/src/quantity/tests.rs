//! The canonical forms and errors that Go's implementation gives.

use super::*;
use serde_json::json;

#[test]
fn canonical_forms() {
    let cases = [
        ("0", "0"),
        ("000", "0"),
        ("0Gi", "0"),
        ("Gi", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.5", "1500m"),
        ("1.500", "1.500"),
        ("100m", "100m"),
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("1025Mi", "1025Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("512Ki", "512Ki"),
        ("0.001Ki", "1024m"),
        ("12e6", "12e6"),
        ("12000e3", "12e6"),
        ("1E3", "1E3"),
        ("1e-3", "1e-3"),
        ("1000k", "1M"),
        ("1000000", "1M"),
        ("123456789", "123456789"),
        ("-5", "-5"),
        ("-0.5", "-500m"),
        ("0.0000000001", "1n"),
        ("1.0000000001", "1000000001n"),
        ("8Ei", "9223372036854775807"),
        ("1Ei", "1Ei"),
        ("2Pi", "2Pi"),
        ("999E", "999E"),
    ];
    for (text, expected) in cases {
        let quantity = Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(quantity.to_string(), expected, "{text}");
    }
}

#[test]
fn refused_texts() {
    let cases = [
        ("", ParseError::Format),
        ("abc", ParseError::Format),
        ("1 Gi", ParseError::Format),
        ("1.2.3", ParseError::Format),
        ("5x", ParseError::Format),
        ("5KI", ParseError::Format),
        ("1e", ParseError::Suffix),
        ("1K", ParseError::Suffix),
        ("1mm", ParseError::Suffix),
        ("Ei", ParseError::Numeric),
    ];
    for (text, expected) in cases {
        assert_eq!(Quantity::parse(text).map(|q| q.to_string()), Err(expected), "{text}");
    }
}

#[test]
fn json_numbers_are_quantities() {
    assert_eq!(canonical(&json!(2)).as_deref(), Some("2"));
    assert_eq!(canonical(&json!(0.1)).as_deref(), Some("100m"));
    assert_eq!(canonical(&json!(" 1Gi ")).as_deref(), Some("1Gi"));
    assert_eq!(canonical(&json!([])), None);
}

#[test]
fn arithmetic_keeps_the_format_of_the_first_nonzero_operand() {
    let parse = |text| Quantity::parse(text).expect("valid");
    let mut sum = Quantity::zero();
    sum.add(&parse("1Gi"));
    sum.add(&parse("512Mi"));
    assert_eq!(sum.to_string(), "1536Mi");
    sum.sub(&parse("1536Mi"));
    assert!(sum.is_zero());
    let mut cpu = parse("250m");
    cpu.mul(4);
    assert_eq!(cpu.to_string(), "1");
    cpu.neg();
    assert_eq!((cpu.sign(), cpu.to_string()), (-1, "-1".to_owned()));
}

#[test]
fn compares_and_rounds() {
    let parse = |text| Quantity::parse(text).expect("valid");
    assert!(parse("1") > parse("999m"));
    assert_eq!(parse("1Ki"), parse("1024"));
    assert_eq!(parse("1500m").value(), 2);
    assert_eq!(parse("-1500m").value(), -2);
    assert_eq!(parse("1u").milli_value(), 1);
    assert_eq!(parse("1500m").as_i64(), None);
    assert_eq!(parse("3").as_i64(), Some(3));
}
