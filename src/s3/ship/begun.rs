//! Uploads that earlier runs have begun and not finished: taken up by whoever sends the same file, and of nobody when all
//! is sent.

use crate::s3::store::Unfinished;
use std::collections::BTreeMap;

/// By key, the newest last.
#[derive(Debug, Default)]
pub(super) struct Begun(BTreeMap<String, Vec<Unfinished>>);

impl Begun {
    /// What was found below a prefix is all that there is below it.
    pub(super) fn found(&mut self, prefix: &str, uploads: Vec<Unfinished>) {
        self.0.retain(|key, _| !key.starts_with(prefix));
        for upload in uploads {
            self.0.entry(upload.key.clone()).or_default().push(upload);
        }
        for all in self.0.values_mut() {
            all.sort_unstable_by_key(|u| u.begun);
        }
    }

    /// The newest of a key, to be taken up.
    pub(super) fn newest(&mut self, key: &str) -> Option<Unfinished> {
        self.0.get_mut(key)?.pop()
    }

    /// The others of a key, once it is sent.
    pub(super) fn others(&mut self, key: &str) -> Vec<Unfinished> {
        self.0.remove(key).unwrap_or_default()
    }

    /// All that nobody has taken up.
    pub(super) fn rest(&mut self) -> Vec<Unfinished> {
        std::mem::take(&mut self.0)
            .into_values()
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(key: &str, second: i64) -> Unfinished {
        Unfinished {
            key: key.into(),
            id: format!("{key}-{second}"),
            begun: chrono::DateTime::from_timestamp(second, 0).unwrap(),
        }
    }

    fn ids(uploads: Vec<Unfinished>) -> Vec<String> {
        uploads.into_iter().map(|u| u.id).collect()
    }

    #[test]
    fn the_newest_is_taken_up_and_the_rest_is_nobodys() {
        let mut begun = Begun::default();
        begun.found(
            "m/",
            vec![
                upload("m/wals/a", 2),
                upload("m/wals/a", 3),
                upload("m/wals/a", 1),
                upload("m/wals/xlog.db", 5),
                upload("m/base/x/f", 4),
            ],
        );
        assert_eq!(begun.newest("m/wals/a").unwrap().id, "m/wals/a-3");
        assert_eq!(begun.newest("m/wals/b"), None);
        let rest = [
            "m/base/x/f-4",
            "m/wals/a-1",
            "m/wals/a-2",
            "m/wals/xlog.db-5",
        ];
        assert_eq!(ids(begun.rest()), rest);
        assert_eq!(ids(begun.rest()), [""; 0]);
    }

    #[test]
    fn what_is_found_again_is_known_once() {
        let mut begun = Begun::default();
        begun.found("m/", vec![upload("m/wals/a", 1), upload("m/base/x/f", 2)]);
        begun.found("m/base/x/", vec![upload("m/base/x/f", 2)]);
        assert_eq!(ids(begun.others("m/base/x/f")), ["m/base/x/f-2"]);
        assert_eq!(ids(begun.rest()), ["m/wals/a-1"]);
    }
}
