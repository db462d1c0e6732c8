//! The files of Amazon's tools: profiles in brackets, `name = value`, and indented below a name that has several of them
//! (AWS SDKs and Tools Reference Guide, "Shared config and credentials files"; `configloader.py` of botocore).

/// What one profile says.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile(Vec<(String, String)>);

impl Profile {
    /// Finds a profile: `[name]` as in a credentials file, or `[profile name]` as in a config file.
    ///
    /// # Errors
    /// There is none: which there are, in words that follow the file's name.
    pub fn find(text: &str, wanted: &str) -> Result<Self, String> {
        let mut sections: Vec<String> = Vec::new();
        let mut says = Vec::new();
        // The name that the indented ones belong to.
        let mut outer = String::new();
        for line in text.lines() {
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = bare.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                let name = name.trim();
                let name = name.strip_prefix("profile ").unwrap_or(name).trim();
                sections.push(name.to_owned());
                outer.clear();
                continue;
            }
            if sections.last().is_none_or(|section| section != wanted) {
                continue;
            }
            let Some((name, value)) = bare.split_once('=') else {
                continue;
            };
            let name = name.trim().to_ascii_lowercase();
            if !line.starts_with([' ', '\t']) || outer.is_empty() {
                value.trim().is_empty().then(|| outer.clone_from(&name));
                says.push((name, value.trim().to_owned()));
            } else {
                says.push((format!("{outer}.{name}"), value.trim().to_owned()));
            }
        }
        if sections.iter().any(|section| section == wanted) {
            Ok(Self(says))
        } else {
            let there = list(sections.iter().map(String::as_str));
            Err(format!(
                "has no profile [{wanted}], only {there} (S3_PROFILE)"
            ))
        }
    }

    /// A value that is not empty; of one within another by `outer.name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All names, in order.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// For messages: all names, in order.
    #[must_use]
    pub fn list(&self) -> String {
        list(self.names())
    }
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(", ")
    }
}

/// Values are keys: none is shown.
impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\nregion = nobodys\n[default]\nregion = eu-1\ns3 =\n    addressing_style = virtual\n  ; \n\
                        \toutput=json\nca_bundle=\n\n[ profile backup ]\n  aws_access_key_id=AK2\nEndpoint_URL = https://s3:1/?a=b\n\
                        region=old\nregion=new\n[sso-session x]\nregion = other\n";

    #[test]
    fn a_profile_is_found_by_its_name_in_both_kinds_of_file() {
        let default = Profile::find(FILE, "default").unwrap();
        assert_eq!(default.get("region"), Some("eu-1"));
        assert_eq!(default.get("s3.addressing_style"), Some("virtual"));
        assert_eq!(default.get("addressing_style"), None);
        assert_eq!(default.get("ca_bundle"), None);
        let backup = Profile::find(FILE, "backup").unwrap();
        assert_eq!(backup.get("aws_access_key_id"), Some("AK2"));
        assert_eq!(backup.get("endpoint_url"), Some("https://s3:1/?a=b"));
        assert_eq!(backup.get("region"), Some("new"));
        assert_eq!(format!("{backup:?}").matches("AK2").count(), 0);
        let there = Profile::find(FILE, "none").unwrap_err();
        assert_eq!(
            there,
            "has no profile [none], only default, backup, sso-session x (S3_PROFILE)"
        );
        let there = Profile::find("", "default").unwrap_err();
        assert_eq!(there, "has no profile [default], only nothing (S3_PROFILE)");
    }
}
