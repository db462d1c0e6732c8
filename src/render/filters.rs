//! The filters of the templates: every `{{ }}` ends in one of these, a test sees to it.

use super::quote::{self, Unwritable};
use std::collections::HashMap;
use tera::{Error, Tera, Value};

type Quote = fn(&str) -> Result<String, Unwritable>;

/// The filters over strings.
pub(super) const TEXT: &[(&str, Quote)] = &[
    ("account", quote::account),
    ("barman_dsn", quote::barman_dsn),
    ("comment", |v| Ok(quote::comment(v))),
    ("conf", quote::conf),
    ("cron", quote::cron),
    ("cron_env", quote::cron_env),
    ("cron_schedule", quote::cron_schedule),
    ("fragment", quote::fragment),
    ("guc", quote::guc),
    ("hba", quote::hba),
    ("ini", quote::ini),
    ("pgpass", quote::pgpass),
    ("section", quote::section),
    ("shell", quote::shell),
];

/// The filter over numbers.
pub(super) const NUMBER: &str = "number";

/// Teaches them to `tera`.
pub(super) fn register(tera: &mut Tera) {
    for &(name, quote) in TEXT {
        tera.register_filter(name, move |value: &Value, _: &HashMap<String, Value>| {
            let value = value
                .as_str()
                .ok_or_else(|| Error::msg(format!("filter `{name}` is for strings")))?;
            // The refusal stays in the chain of sources, so the cause keeps its type.
            quote(value)
                .map(Value::String)
                .map_err(|refused| Error::call_filter(name, refused))
        });
    }
    tera.register_filter(NUMBER, |value: &Value, _: &HashMap<String, Value>| {
        if value.is_number() {
            Ok(value.clone())
        } else {
            Err(Error::msg("filter `number` is for numbers"))
        }
    });
}
