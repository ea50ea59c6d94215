//! Settings given on the command line of one node. They are held to the same rules as in the file; errors name the
//! flag.

use std::path::PathBuf;

use super::error::{Problems, Wrong};
use super::json::Tree;
use super::value::{one_of, path, whole, whole_u32};
use super::{Config, ConfigError, chunking_names, fairness_names, forwarding_names};

/// What the flags of `overlay node` say; `None` leaves the file's setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub forwarding_strategy: Option<String>,
    pub async_forwarding: Option<bool>,
    pub chunking_strategy: Option<String>,
    pub fairness_strategy: Option<String>,
    /// Rows.
    pub chunk_size: Option<u32>,
    pub result_ttl_s: Option<u64>,
    /// A cache below the old root moves along.
    pub dataset_root: Option<PathBuf>,
}

impl Config {
    /// Applies all of the overrides, or none of them and tells every problem.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        let problems = Problems::default();
        let mut changed = self.clone();
        let strategies = &mut changed.strategies;
        let name = |flag: &str, given: &Option<String>, names: &[&str], setting: &mut String| {
            let Some(given) = given else { return };
            if let Some(name) = problems.note(flag, one_of(names)(&Tree::Text(given.clone()))) {
                *setting = name;
            }
        };
        let forwarding = forwarding_names();
        name("--forwarding-strategy", &overrides.forwarding_strategy, &forwarding, &mut strategies.forwarding_strategy);
        name("--chunking-strategy", &overrides.chunking_strategy, &chunking_names(), &mut strategies.chunking_strategy);
        name("--fairness-strategy", &overrides.fairness_strategy, &fairness_names(), &mut strategies.fairness_strategy);
        if let Some(asynchronous) = overrides.async_forwarding {
            strategies.async_forwarding = asynchronous;
        }
        if let Some(rows) = overrides.chunk_size {
            let read = whole_u32(1, self.limits.chunk_rows_max)(&Tree::Whole(i128::from(rows)));
            strategies.chunk_size = problems.note("--chunk-size", read).unwrap_or(strategies.chunk_size);
        }
        if let Some(seconds) = overrides.result_ttl_s {
            let read: Result<u64, Wrong> = whole(1, 86_400)(&Tree::Whole(i128::from(seconds)));
            changed.limits.result_ttl_s = problems.note("--result-ttl", read).unwrap_or(changed.limits.result_ttl_s);
        }
        if let Some(root) = &overrides.dataset_root {
            let read = path(&Tree::Text(root.to_string_lossy().into_owned()));
            if problems.note("--dataset-root", read).is_some() {
                if let Ok(below) = self.dataset.cache.strip_prefix(&self.dataset.root) {
                    changed.dataset.cache = root.join(below);
                }
                changed.dataset.root = root.clone();
            }
        }
        let problems = problems.into_vec();
        if problems.is_empty() {
            *self = changed;
            Ok(())
        } else {
            Err(ConfigError::Problems { name: "command line".into(), problems })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::load;
    use super::*;

    #[test]
    fn overrides_are_applied_whole_or_not_at_all() {
        let mut config = load("one_host.json");
        let before = config.clone();
        let wrong = Overrides {
            forwarding_strategy: Some("round-robin".into()),
            chunk_size: Some(0),
            result_ttl_s: Some(0),
            async_forwarding: Some(false),
            ..Overrides::default()
        };
        let error = config.apply(&wrong).unwrap_err();
        let paths: Vec<&str> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["--forwarding-strategy", "--chunk-size", "--result-ttl"]);
        assert!(error.to_string().contains("did you mean round_robin?"), "{error}");
        assert_eq!(config, before);
        config.apply(&Overrides::default()).unwrap();
        assert_eq!(config, before);
        let right = Overrides {
            forwarding_strategy: Some("round_robin".into()),
            async_forwarding: Some(false),
            chunking_strategy: Some("fixed".into()),
            fairness_strategy: Some("strict".into()),
            chunk_size: Some(7),
            result_ttl_s: Some(9),
            dataset_root: Some("/data".into()),
        };
        config.apply(&right).unwrap();
        assert_eq!(config.strategies.forwarding_strategy, "round_robin");
        assert_eq!((config.strategies.chunk_size, config.limits.result_ttl_s), (7, 9));
        assert_eq!(
            (config.dataset.root.as_path(), config.dataset.cache.as_path()),
            (Path::new("/data"), Path::new("/data/.overlay"))
        );
    }
}
