//! Merging of settings: defaults, then the TOML file, then `KAFKA_…` and `TIDEMILL_…` of the environment, then
//! flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::BrokerConfig;
use super::settings::{self, Applied};

/// Environment variables of ours that are not settings of the broker.
const OTHER_VARIABLES: &[&str] = &[
    "TIDEMILL_BOOTSTRAP",
    "TIDEMILL_ADMIN",
    "TIDEMILL_CONFIG",
    "TIDEMILL_LOG",
];

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {cause}", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        cause: String,
    },
    /// A name that nobody knows.
    #[error("unknown setting {name} ({place}){}", .nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Unknown {
        /// As it was written.
        name: String,
        /// File, environment or flag.
        place: String,
        /// The nearest name that exists.
        nearest: Option<&'static str>,
    },
    /// Two spellings of one setting in the file.
    #[error("{first} and {second} in {} are the same setting; keep one of them", .path.display())]
    Twice {
        /// One spelling.
        first: String,
        /// The other.
        second: String,
        /// The file.
        path: PathBuf,
    },
    /// A value that does not fit.
    #[error("{name} ({place}): {cause}")]
    Value {
        /// As it was written.
        name: String,
        /// File, environment or flag.
        place: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// A setting on the command line.
#[derive(Debug, Clone)]
pub struct Flag<'a> {
    /// As it stands there, for errors.
    pub written: String,
    /// Which setting.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// Merges what is given. Warnings go to the log.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Flag<'_>],
) -> Result<BrokerConfig, ConfigError> {
    let mut config = BrokerConfig::default();
    if let Some(path) = file {
        let mut spellings: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in read(path)? {
            set(&mut config, &name, &value, &path.display().to_string())?;
            if let Some(first) = spellings.insert(settings::canonical(&name), name.clone()) {
                return Err(ConfigError::Twice {
                    first,
                    second: name,
                    path: path.to_owned(),
                });
            }
        }
    }
    let mut variables: Vec<_> = environment.collect();
    // In this order `TIDEMILL_…` wins over `KAFKA_…`.
    variables.sort();
    for (variable, value) in &variables {
        if OTHER_VARIABLES.contains(&&**variable) {
            continue;
        }
        if let Some(name) = variable.strip_prefix("TIDEMILL_") {
            set(
                &mut config,
                name,
                value,
                &format!("environment variable {variable}"),
            )?;
        } else if let Some(name) = variable.strip_prefix("KAFKA_") {
            set_from_kafka(&mut config, variable, name, value)?;
        }
    }
    for flag in flags {
        let place = format!("flag {}", flag.written);
        set(&mut config, flag.name, flag.value, &place)?;
    }
    Ok(config)
}

fn set(config: &mut BrokerConfig, name: &str, value: &str, place: &str) -> Result<(), ConfigError> {
    let place = place.to_owned();
    let name = name.to_owned();
    match settings::apply(config, &name, value) {
        Ok(Applied::Done) => Ok(()),
        Ok(Applied::WithoutEffect) => {
            tracing::warn!(
                setting = name,
                place,
                "this setting of Kafka's has no effect here"
            );
            Ok(())
        }
        Ok(Applied::Unknown(nearest)) => Err(ConfigError::Unknown {
            name,
            place,
            nearest,
        }),
        Err(cause) => Err(ConfigError::Value { name, place, cause }),
    }
}

/// Container images set `KAFKA_…` for many reasons: what we do not know is only warned about.
fn set_from_kafka(
    config: &mut BrokerConfig,
    variable: &str,
    name: &str,
    value: &str,
) -> Result<(), ConfigError> {
    match set(
        config,
        name,
        value,
        &format!("environment variable {variable}"),
    ) {
        Err(ConfigError::Unknown { .. }) => {
            tracing::warn!(variable, "unknown KAFKA_ variable is ignored");
            Ok(())
        }
        other => other,
    }
}

/// The file's keys, dotted, with their values as text.
fn read(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |cause: String| ConfigError::Toml {
        path: path.to_owned(),
        cause,
    };
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let mut flat = Vec::new();
    flatten("", &table, &mut flat).map_err(wrong)?;
    Ok(flat)
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    flat: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        let text = match value {
            // A known table whose lines are all comments is no mistake.
            toml::Value::Table(table) if !table.is_empty() || settings::is_table(&name) => {
                flatten(&name, table, flat)?;
                continue;
            }
            toml::Value::Table(_) => String::new(),
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Array(_) | toml::Value::Datetime(_) => {
                return Err(format!("{name} is neither text, number nor true/false"));
            }
        };
        flat.push((name, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (String, String)> + 'a {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the file that a person wrote")]
    fn flags_win_over_the_environment_which_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidemill.toml");
        std::fs::write(
            &file,
            "num.partitions = 3\ndata_dir = \"/a\"\nnode-id = 7\n[log]\nretention.ms = 5\n",
        )
        .unwrap();
        let environment = [
            ("TIDEMILL_DATA_DIR", "/b"),
            ("KAFKA_NUM_PARTITIONS", "4"),
            ("HOME", "/"),
        ];
        let flags = [Flag {
            written: "--data-dir".to_owned(),
            name: "data-dir",
            value: "/c",
        }];
        let config = load(Some(&file), pairs(&environment), &flags).unwrap();
        assert_eq!(config.data_dir, Path::new("/c"));
        assert_eq!(config.num_partitions, 4);
        assert_eq!(config.node_id, 7);
        assert_eq!(
            config.topic_defaults,
            [("retention.ms".to_owned(), "5".to_owned())]
        );
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the file that a person wrote")]
    fn a_file_says_each_thing_once_and_nothing_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidemill.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            load(Some(&file), pairs(&[]), &[]).map_err(|error| error.to_string())
        };
        for (text, words) in [
            (
                "data_dir = \"/a\"\nlog.dirs = \"/b\"\n",
                ["data_dir", "log.dirs"],
            ),
            (
                "num.partitions = 1\nnum_partitions = 2\n",
                ["num.partitions", "num_partitions"],
            ),
            ("[network]\n", ["unknown setting", "network"]),
            (
                "flush.messages = 1\n",
                ["flush.messages", "log.flush.interval.messages"],
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        assert!(load("[log]\n").is_ok());
        // Other units of one setting are Kafka's; there the milliseconds win.
        assert!(load("log.retention.ms = 5\nlog.retention.hours = 1\n").is_ok());
    }

    #[test]
    fn unknown_names_say_what_was_meant() {
        let error = load(None, pairs(&[("TIDEMILL_DATADIR", "/x")]), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("TIDEMILL_DATADIR") && error.contains("data.dir"),
            "{error}"
        );
        assert!(load(None, pairs(&[("KAFKA_HEAP_OPTS", "-Xmx1g")]), &[]).is_ok());
        assert!(load(None, pairs(&[("TIDEMILL_LOG", "debug")]), &[]).is_ok());
    }

    #[test]
    fn wrong_values_say_where_they_stand() {
        for (name, value) in [
            ("TIDEMILL_NODE_ID", "-1"),
            ("TIDEMILL_DATA_DIR", ""),
            ("TIDEMILL_DATA_DIR", " "),
            ("TIDEMILL_LISTEN", "nowhere"),
            ("TIDEMILL_LOG_RETENTION_MS", "soon"),
            ("KAFKA_NUM_PARTITIONS", "0"),
        ] {
            let error = load(None, pairs(&[(name, value)]), &[])
                .unwrap_err()
                .to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn kafkas_hours_are_milliseconds_unless_those_are_given() {
        let both = [
            ("KAFKA_LOG_RETENTION_MS", "5"),
            ("KAFKA_LOG_RETENTION_HOURS", "2"),
        ];
        let config = load(None, pairs(&both), &[]).unwrap();
        assert_eq!(config.topic_defaults.last().unwrap().1, "5");
        let hours = load(None, pairs(&both[1..]), &[]).unwrap();
        assert_eq!(
            hours.topic_defaults,
            [("retention.ms".to_owned(), "7200000".to_owned())]
        );
    }
}
