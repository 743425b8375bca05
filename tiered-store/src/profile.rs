//! Credentials of a named profile, as the AWS command line keeps them in `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a profile sets of what we use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) access_key_id: Option<String>,
    pub(crate) secret_access_key: Option<String>,
    pub(crate) session_token: Option<String>,
    pub(crate) region: Option<String>,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither file has it.
    #[error("AWS_PROFILE is '{name}', and neither {credentials} nor {config} has such a profile")]
    Unknown {
        /// The profile.
        name: String,
        /// Where it was looked for.
        credentials: String,
        /// And where else.
        config: String,
    },
    /// It has no static keys.
    #[error(
        "the profile '{0}' has no aws_access_key_id with aws_secret_access_key; other ways of signing in are not supported"
    )]
    NoKeys(String),
}

/// The profile that `AWS_PROFILE` names, if any.
pub(crate) fn from_environment() -> Result<Option<Profile>, ProfileError> {
    let Some(name) = std::env::var("AWS_PROFILE")
        .ok()
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let file = |variable: &str, default: &str| {
        let named = std::env::var_os(variable).map(PathBuf::from);
        named.unwrap_or_else(|| {
            let home = std::env::var_os("HOME").unwrap_or_default();
            PathBuf::from(home).join(".aws").join(default)
        })
    };
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let config = file("AWS_CONFIG_FILE", "config");
    #[allow(
        clippy::disallowed_methods,
        reason = "of the user, not of the broker's data"
    )]
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let found = look_up(&name, &read(&credentials), &read(&config));
    let profile = found.ok_or_else(|| ProfileError::Unknown {
        name: name.clone(),
        credentials: credentials.display().to_string(),
        config: config.display().to_string(),
    })?;
    match profile.access_key_id.is_some() && profile.secret_access_key.is_some() {
        true => Ok(Some(profile)),
        false => Err(ProfileError::NoKeys(name)),
    }
}

fn look_up(name: &str, credentials: &str, config: &str) -> Option<Profile> {
    let of_credentials = section(credentials, name);
    // The config file calls all but the default profile `profile NAME`.
    let of_config = section(config, &format!("profile {name}")).or_else(|| section(config, name));
    if of_credentials.is_none() && of_config.is_none() {
        return None;
    }
    let get = |key: &str| {
        let sections = [&of_credentials, &of_config].into_iter().flatten();
        let mut values = sections.filter_map(|section| section.get(key));
        values.next().map(|value| (*value).to_owned())
    };
    Some(Profile {
        access_key_id: get("aws_access_key_id"),
        secret_access_key: get("aws_secret_access_key"),
        session_token: get("aws_session_token"),
        region: get("region"),
    })
}

fn section<'a>(text: &'a str, wanted: &str) -> Option<BTreeMap<&'a str, &'a str>> {
    let mut found: Option<BTreeMap<&str, &str>> = None;
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            is_inside = name.trim() == wanted;
            if is_inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value))) = (is_inside, line.split_once('=')) {
            found
                .get_or_insert_default()
                .insert(key.trim(), value.trim());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_put_together_from_both_files() {
        let credentials = "[default]\naws_access_key_id = A\n\n[dev]\n# mine\naws_access_key_id=D\naws_secret_access_key = s=1\n";
        let config = "[profile dev]\nregion = eu-central-1\n[default]\nregion=us-east-2\n";
        let dev = look_up("dev", credentials, config).expect("both have it");
        assert_eq!(dev.access_key_id.as_deref(), Some("D"));
        assert_eq!(dev.secret_access_key.as_deref(), Some("s=1"));
        assert_eq!(dev.region.as_deref(), Some("eu-central-1"));
        let default = look_up("default", credentials, config).expect("both have it");
        assert_eq!(default.region.as_deref(), Some("us-east-2"));
        assert_eq!(look_up("other", credentials, config), None);
    }
}
