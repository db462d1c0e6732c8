//! A credentials file of Amazon's tools: sections in brackets, `name = value` (AWS CLI, "configuration and
//! credential file settings").

use crate::config::Profile;
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
    let found = Profile::find(text, profile)?;
    let key = |name: &str| {
        found
            .get(name)
            .map(str::to_owned)
            .ok_or_else(|| format!("has no {name} in [{profile}], only {}", found.list()))
    };
    Ok(AwsCredential {
        key_id: key("aws_access_key_id")?,
        secret_key: key("aws_secret_access_key")?,
        token: found.get("aws_session_token").map(str::to_owned),
    })
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
