//! A credentials file of Amazon's tools: sections in brackets, `name = value` (AWS CLI, "configuration and
//! credential file settings").

use crate::s3::S3Error;
use object_store::aws::AwsCredential;
use object_store::client::CredentialProvider;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VARIABLE: &str = "S3_CREDENTIALS_FILE";

/// Reads the file at each use, so that keys that are changed count at once: it is small, and a request is not.
#[derive(Debug)]
pub(super) struct FromFile {
    pub(super) path: PathBuf,
    pub(super) profile: String,
}

#[async_trait::async_trait]
impl CredentialProvider for FromFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        read(&self.path, &self.profile)
            .map(Arc::new)
            .map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            })
    }
}

/// The keys of a profile.
pub(super) fn read(path: &Path, profile: &str) -> Result<AwsCredential, S3Error> {
    let text = std::fs::read_to_string(path).map_err(|e| S3Error::Setting {
        variable: VARIABLE,
        why: format!("{} cannot be read: {e}", path.display()),
    })?;
    parse(&text, profile).map_err(|why| S3Error::Setting {
        variable: VARIABLE,
        why: format!("{} {why}", path.display()),
    })
}

/// The keys of a profile, or what is wrong with the text. Values are never repeated.
fn parse(text: &str, profile: &str) -> Result<AwsCredential, String> {
    let mut section = String::new();
    let mut sections = Vec::new();
    let mut names = Vec::new();
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            section = name
                .strip_prefix("profile ")
                .unwrap_or(name)
                .trim()
                .to_owned();
            sections.push(section.clone());
            continue;
        }
        if section != profile {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "aws_access_key_id" => id = Some(value),
            "aws_secret_access_key" => secret = Some(value),
            "aws_session_token" => token = Some(value),
            _ => {}
        }
        names.push(name);
    }
    if !sections.iter().any(|s| s == profile) {
        return Err(format!(
            "has no profile [{profile}], only {} (S3_PROFILE)",
            list(&sections)
        ));
    }
    match (id, secret) {
        (Some(key_id), Some(secret_key)) => Ok(AwsCredential {
            key_id,
            secret_key,
            token,
        }),
        (id, _) => Err(format!(
            "has no {} in [{profile}], only {}",
            if id.is_none() {
                "aws_access_key_id"
            } else {
                "aws_secret_access_key"
            },
            list(&names)
        )),
    }
}

fn list(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        words => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\n[default]\naws_access_key_id = AK1\naws_secret_access_key=s1\n\n[profile backup]\naws_access_key_id=AK2\naws_secret_access_key = s2\naws_session_token = t2\n[half]\naccess_key = AK3\naws_access_key_id=AK3\n";

    #[test]
    fn a_profile_is_found() {
        let found = |profile| parse(FILE, profile).map(|c| (c.key_id, c.secret_key, c.token));
        assert_eq!(found("default"), Ok(("AK1".into(), "s1".into(), None)));
        assert_eq!(
            found("backup"),
            Ok(("AK2".into(), "s2".into(), Some("t2".into())))
        );
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_is_shown() {
        let fault = parse(FILE, "half").unwrap_err();
        assert_eq!(
            fault,
            "has no aws_secret_access_key in [half], only access_key, aws_access_key_id"
        );
        assert_eq!(
            parse(FILE, "none").unwrap_err(),
            "has no profile [none], only default, backup, half (S3_PROFILE)"
        );
    }
}
