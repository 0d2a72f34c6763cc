//! Times, names and words of drafts.

use jiff::Timestamp;

/// A moment, in UTC.
pub(super) fn at(us: i64) -> String {
    let time = Timestamp::from_microsecond(us);
    time.map_or_else(|_| us.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A moment, or that it is still to come.
pub(super) fn or_open(us: Option<i64>) -> String {
    us.map_or_else(|| "**not yet**".to_owned(), at)
}

/// What somebody else chose, as code.
pub(super) fn code(text: &str) -> String {
    format!("`{}`", text.escape_debug().to_string().replace('`', "'"))
}

/// Text of a person, on one line.
pub(super) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Something to be filled in.
pub(super) fn or_blank(text: Option<&String>, blank: &str) -> String {
    text.map_or_else(|| format!("**[{blank}]**"), |text| line(text))
}

/// How somebody was established, for who does not know the log's words.
pub(super) fn established(auth: &str) -> &str {
    match auth {
        "scram-sha-256" => "password, proved to the server (SCRAM-SHA-256)",
        "scram-terminate" => "password, proved to pgveil and to the server (SCRAM-SHA-256)",
        "md5" => "password (MD5 challenge)",
        "cleartext" => "password",
        "trust" => "not established: let in without a password",
        "none" => "not established: the login failed",
        other => other,
    }
}

/// A kind of data, for who does not know the policy's words.
pub(super) fn data(tag: &str) -> &str {
    match tag {
        "phi" => "health data (Article 9)",
        "pii" => "identity and contact data",
        "financial" => "financial data",
        "biometric" => "biometric data (Article 9)",
        "behavioral" => "data about behaviour",
        other => other,
    }
}

/// What may follow when such data is disclosed.
pub(super) fn consequence(tag: &str) -> &str {
    match tag {
        "phi" => "disclosure of health data: stigma, discrimination, distress, loss of medical confidentiality",
        "pii" => "identity theft, phishing, unwanted contact",
        "financial" => "fraud, financial loss",
        "biometric" => "impersonation by features that cannot be changed",
        "behavioral" => "profiling, surveillance, embarrassment",
        _ => "loss of control over personal data",
    }
}

/// `**name:** value` as an item.
pub(super) fn item(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("- **{name}:** {value}\n"));
}
