use procession_model::InvalidArgument;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How units are made. The names of the fields are those of the keyword arguments in Python and of the keys in TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemdConfig {
    /// Whose units they are: `user`, those of the user's own manager, `system`, or the address of a D-Bus where a manager is,
    /// `unix:path=/run/user/1000/bus`. DBUS_SESSION_BUS_ADDRESS and DBUS_SYSTEM_BUS_ADDRESS say where the first two are, where they
    /// are set.
    pub bus: String,
    /// The slice that units are in, `training.slice`. None is the manager's usual one: `app.slice` of a user, else `system.slice`.
    pub slice: Option<String>,
    /// How many units are started at the same time.
    pub launches_at_once: usize,
    /// Properties that are set in each unit, in the place of those that this sets or beside them, by their names on D-Bus; null
    /// takes one away: `{"Nice": 5, "IOWeight": 50}`.
    pub patch: Map<String, Value>,
}

impl Default for SystemdConfig {
    fn default() -> Self {
        Self { bus: "user".to_owned(), slice: None, launches_at_once: 64, patch: Map::new() }
    }
}

impl SystemdConfig {
    /// Refuses what the manager would refuse later.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        let refused = |field: &str, given: &str, rule: &str| {
            Err(InvalidArgument::new(field, format!("{given:?}"), rule.to_owned()))
        };
        if !matches!(self.bus.as_str(), "user" | "system") && !self.bus.contains(':') {
            return refused(
                "bus",
                &self.bus,
                "give user, system, or an address: unix:path=/run/user/1000/bus",
            );
        }
        if let Some(slice) = self.slice.as_ref().filter(|slice| !is_slice(slice)) {
            return refused("slice", slice, "give the name of a slice: training.slice");
        }
        if self.launches_at_once == 0 {
            return refused("launches_at_once", "0", "at least 1");
        }
        Ok(())
    }
}

fn is_slice(text: &str) -> bool {
    let name = text.strip_suffix(".slice").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:\\".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_by_the_name_of_its_field() {
        let good = SystemdConfig::default();
        good.check().unwrap();
        SystemdConfig { slice: Some("a-b.slice".into()), bus: "unix:path=/bus".into(), ..good.clone() }
            .check()
            .unwrap();
        for (field, bad) in [
            ("bus", SystemdConfig { bus: String::new(), ..good.clone() }),
            ("bus", SystemdConfig { bus: "session".into(), ..good.clone() }),
            ("slice", SystemdConfig { slice: Some("training".into()), ..good.clone() }),
            ("slice", SystemdConfig { slice: Some("a/b.slice".into()), ..good.clone() }),
            ("launches_at_once", SystemdConfig { launches_at_once: 0, ..good.clone() }),
        ] {
            assert_eq!(bad.check().unwrap_err().field, field);
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_and_not_ignored() {
        let error = serde_json::from_str::<SystemdConfig>(r#"{"buss": "user"}"#).unwrap_err();
        assert!(error.to_string().contains("buss"), "{error}");
    }
}
