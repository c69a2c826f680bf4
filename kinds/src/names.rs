//! The grammars of names: DNS labels and subdomains, label keys and values, ports, environment variables.
//!
//! Each check returns upstream's complaints, none when the text is well formed. Matching is by hand:
//! these run for every label of every write, and a regular expression is only quoted in the messages.

#[cfg(test)]
mod tests;

/// What is wrong with a text, in upstream's words; empty when nothing is.
pub type Complaints = Vec<String>;

/// A grammar that a resource's name must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// `my-name.example`: most resources.
    Dns1123Subdomain,
    /// `my-name`: namespaces and others.
    Dns1123Label,
    /// `my-name`, not starting with a digit: services.
    Dns1035Label,
    /// Anything that can stand in a URL path: RBAC.
    PathSegment,
}

impl NameRule {
    /// Complaints about `name`; `prefix` says that something will be appended to it.
    pub fn check(self, name: &str, prefix: bool) -> Complaints {
        match self {
            Self::Dns1123Subdomain => subdomain(&masked(name, prefix)),
            Self::Dns1123Label => label(&masked(name, prefix)),
            Self::Dns1035Label => dns1035(&masked(name, prefix)),
            Self::PathSegment => path_segment(name, prefix),
        }
    }
}

/// A trailing dash is fine when characters will follow it; upstream drops one character more than it should.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    if prefix && name.len() > 1 && name.ends_with('-') && name.is_ascii() {
        return format!("{}a", &name[..name.len() - 2]).into();
    }
    name.into()
}

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const KEY_MESSAGE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

const CASELESS_MESSAGE: &str = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// `must be no more than N characters`.
pub fn max_len(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// A grammar's message with its examples and its expression.
pub fn regex_message(message: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{expression}')", examples.join(" or "))
}

/// `must be between lo and hi, inclusive`.
pub fn range_message(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

fn lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Non-empty, `inner` throughout, `edge` first and last.
fn framed(text: &[u8], edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let (Some(first), Some(last)) = (text.first(), text.last()) else {
        return false;
    };
    edge(*first) && edge(*last) && text.iter().all(|c| inner(*c))
}

fn is_label(text: &str) -> bool {
    framed(text.as_bytes(), lower, |c| lower(c) || c == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_key_name(text: &str) -> bool {
    framed(
        text.as_bytes(),
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'),
    )
}

/// A DNS label (RFC 1123).
pub fn label(value: &str) -> Complaints {
    let mut found = Complaints::new();
    if value.len() > LABEL_MAX {
        found.push(max_len(LABEL_MAX));
    }
    if is_label(value) {
        return found;
    }
    if is_subdomain(value) {
        found.push("must not contain dots".to_owned());
        return found;
    }
    found.push(regex_message(LABEL_MESSAGE, LABEL_FMT, &["my-name", "123-abc"]));
    found
}

/// A DNS subdomain (RFC 1123).
pub fn subdomain(value: &str) -> Complaints {
    let mut found = Complaints::new();
    if value.len() > SUBDOMAIN_MAX {
        found.push(max_len(SUBDOMAIN_MAX));
    }
    if !is_subdomain(value) {
        found.push(regex_message(SUBDOMAIN_MESSAGE, SUBDOMAIN_FMT, &["example.com"]));
    }
    found
}

/// A DNS subdomain, capitals allowed.
pub fn subdomain_caseless(value: &str) -> Complaints {
    let mut found = Complaints::new();
    if value.len() > SUBDOMAIN_MAX {
        found.push(max_len(SUBDOMAIN_MAX));
    }
    if !is_subdomain(&value.to_ascii_lowercase()) {
        found.push(regex_message(CASELESS_MESSAGE, SUBDOMAIN_FMT, &["Example.com"]));
    }
    found
}

/// A DNS subdomain whose labels may also hold underscores.
pub fn subdomain_with_underscore(value: &str) -> Complaints {
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
    const PART: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut found = Complaints::new();
    if value.len() > SUBDOMAIN_MAX {
        found.push(max_len(SUBDOMAIN_MAX));
    }
    let part = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        framed(text.as_bytes(), lower, |c| lower(c) || c == b'-' || c == b'_')
    };
    if !value.split('.').all(part) {
        let expression = format!(r"{PART}(\.{PART})*");
        found.push(regex_message(MESSAGE, &expression, &["example.com"]));
    }
    found
}

/// `*.` and a DNS subdomain.
pub fn wildcard_subdomain(value: &str) -> Complaints {
    const MESSAGE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let mut found = Complaints::new();
    if value.len() > SUBDOMAIN_MAX {
        found.push(max_len(SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let expression = format!(r"\*\.{SUBDOMAIN_FMT}");
        found.push(regex_message(MESSAGE, &expression, &["*.example.com"]));
    }
    found
}

/// A DNS label that starts with a letter (RFC 1035).
pub fn dns1035(value: &str) -> Complaints {
    const MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    let mut found = Complaints::new();
    if value.len() > LABEL_MAX {
        found.push(max_len(LABEL_MAX));
    }
    if !is_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        found.push(regex_message(MESSAGE, DNS1035_FMT, &["my-name", "abc-123"]));
    }
    found
}

/// A text that can be one segment of a URL path.
pub fn path_segment(name: &str, prefix: bool) -> Complaints {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// A label key, which upstream calls a qualified name.
pub fn label_key(value: &str) -> Complaints {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut found = Complaints::new();
    let mut parts = value.split('/');
    let (first, second) = (parts.next().unwrap_or(""), parts.next());
    if parts.next().is_some() {
        let message = regex_message(KEY_MESSAGE, KEY_FMT, &examples);
        found.push(format!(
            "a valid label key {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ));
        return found;
    }
    if second.is_some() {
        match first {
            "" => found.push("prefix part must be non-empty".to_owned()),
            prefix => found.extend(subdomain(prefix).iter().map(|m| format!("prefix part {m}"))),
        }
    }
    let name = second.unwrap_or(first);
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        found.push(format!("name part {}", max_len(LABEL_MAX)));
    }
    if !is_key_name(name) {
        let message = regex_message(KEY_MESSAGE, KEY_FMT, &examples);
        found.push(format!("name part {message}"));
    }
    found
}

/// A label's value.
pub fn label_value(value: &str) -> Complaints {
    const MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let mut found = Complaints::new();
    if value.len() > LABEL_MAX {
        found.push(max_len(LABEL_MAX));
    }
    if !value.is_empty() && !is_key_name(value) {
        let expression = format!("({KEY_FMT})?");
        let examples = ["MyValue", "my_value", "12345"];
        found.push(regex_message(MESSAGE, &expression, &examples));
    }
    found
}

/// A port's name, as in `targetPort: http`.
pub fn port_name(port: &str) -> Complaints {
    let mut found = Complaints::new();
    let mut complain = |bad: bool, message: &str| {
        if bad {
            found.push(message.to_owned());
        }
    };
    let allowed = |c: u8| lower(c) || c == b'-';
    complain(port.len() > 15, &max_len(15));
    complain(
        port.is_empty() || !port.bytes().all(allowed),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    complain(!port.bytes().any(|c| c.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    complain(port.contains("--"), "must not contain consecutive hyphens");
    complain(port.starts_with('-') || port.ends_with('-'), "must not begin or end with a hyphen");
    found
}

/// A port number.
pub fn port_number(port: i64) -> Complaints {
    in_range(port, 1, 65535)
}

/// A number between two bounds.
pub fn in_range(value: i64, lo: i64, hi: i64) -> Complaints {
    if (lo..=hi).contains(&value) {
        return Complaints::new();
    }
    vec![range_message(lo, hi)]
}

/// A Unix user or group id.
pub fn unix_id(id: i64) -> Complaints {
    in_range(id, 0, i64::from(i32::MAX))
}

/// `12%`.
pub fn percent(text: &str) -> Complaints {
    const MESSAGE: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Complaints::new();
    }
    vec![regex_message(MESSAGE, "[0-9]+%", &["1%", "93%"])]
}

/// An HTTP header's name.
pub fn http_header(name: &str) -> Complaints {
    const MESSAGE: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if !name.is_empty() && name.bytes().all(allowed) {
        return Complaints::new();
    }
    vec![regex_message(MESSAGE, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// An environment variable's name by the older, narrower rule (`envFrom` prefixes).
pub fn env_var(name: &str) -> Complaints {
    const MESSAGE: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    let mut found = Complaints::new();
    let starts_badly = name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() || starts_badly || !name.bytes().all(allowed) {
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        found.push(regex_message(MESSAGE, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples));
    }
    found.extend(leading_dots(name));
    found
}

/// An environment variable's name: printable ASCII without `=`.
pub fn relaxed_env_var(name: &str) -> Complaints {
    let mut found = Complaints::new();
    if name.is_empty() {
        found.push("environment variable name must be non-empty".to_owned());
    }
    if !name.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        found.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    found
}

/// A key of a ConfigMap or Secret.
pub fn config_key(key: &str) -> Complaints {
    const MESSAGE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    let mut found = Complaints::new();
    if key.len() > SUBDOMAIN_MAX {
        found.push(max_len(SUBDOMAIN_MAX));
    }
    if key.is_empty() || !key.bytes().all(allowed) {
        let examples = ["key.name", "KEY_NAME", "key-name"];
        found.push(regex_message(MESSAGE, "[-._a-zA-Z0-9]+", &examples));
    }
    found.extend(leading_dots(key));
    found
}

/// A C identifier.
pub fn c_identifier(text: &str) -> Complaints {
    const MESSAGE: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let starts_badly = text.starts_with(|c: char| c.is_ascii_digit());
    if !text.is_empty() && !starts_badly && text.bytes().all(allowed) {
        return Complaints::new();
    }
    let examples = ["my_name", "MY_NAME", "MyName"];
    vec![regex_message(MESSAGE, "[A-Za-z_][A-Za-z0-9_]*", &examples)]
}

fn leading_dots(text: &str) -> Option<String> {
    match text {
        "." | ".." => Some(format!("must not be '{text}'")),
        _ => text.starts_with("..").then(|| "must not start with '..'".to_owned()),
    }
}

/// Validates a domain name of at least two labels, with or without the final dot.
pub fn fully_qualified(name: &str, path: &api::field::Path<'_>, errors: &mut api::field::FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let complaints = subdomain(name);
    if !complaints.is_empty() {
        errors.invalid(path, name, &complaints.join(","));
        return;
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, name, detail);
        return;
    }
    let bad = name.split('.').map(|part| (part, label(part))).find(|(_, found)| !found.is_empty());
    if let Some((part, complaints)) = bad {
        errors.invalid(path, part, &complaints.join(","));
    }
}

/// Validates a name of at least three labels, such as a webhook's.
pub fn fully_qualified_name(name: &str, path: &api::field::Path<'_>, errors: &mut api::field::FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let complaints = subdomain(name);
    if !complaints.is_empty() {
        errors.invalid(path, name, &complaints.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

/// Validates `domain/path`.
pub fn domain_prefixed_path(text: &str, path: &api::field::Path<'_>, errors: &mut api::field::FieldErrors) {
    const CHARACTERS: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((host, rest)) = text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.invalid(path, text, detail);
        return;
    };
    for complaint in subdomain(host) {
        errors.invalid(path, host, &complaint);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !rest.chars().all(allowed) {
        errors.invalid(path, rest, &regex_message("Invalid path", CHARACTERS, &[]));
    }
}
