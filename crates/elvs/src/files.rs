//! Configuration files on disk, for the configuration reader.
//!
//! **Invariant:** no more than the reader's limit of a file is ever read, and only of regular files.
//!
//! Called by the daemon and by `elvs check`.

use std::fs::File;
use std::io::{self, Read};

use elvs_config::{MAX_FILE_BYTES, Outcome, Source, SourceError};

/// Reads a configuration file and everything it includes, with this host's name as configuration id.
pub fn read(path: &str) -> Outcome {
    read_as(path, host_label())
}

/// Reads a configuration file and everything it includes, as the node with that configuration id does.
pub fn read_as(path: &str, config_id: String) -> Outcome {
    let options = elvs_config::Options { config_id, ..elvs_config::Options::default() };
    elvs_config::read(&Files, path, &options)
}

/// First label of the host's name: what keepalived takes as configuration id.
fn host_label() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// The file system and the environment.
#[derive(Debug, Default)]
struct Files;

impl Source for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let file = File::open(path).map_err(|error| failure(&error))?;
        if !file.metadata().map_err(|error| failure(&error))?.is_file() {
            return Err(SourceError::NotAFile);
        }
        let mut bytes = Vec::new();
        // One byte more than allowed tells the reader that there is more.
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failure(&error))?;
        Ok(bytes)
    }

    fn matches(&self, pattern: &str) -> Result<Vec<String>, SourceError> {
        let mut found = Vec::new();
        for path in glob::glob(pattern).map_err(|error| SourceError::Pattern(error.msg))? {
            let path = path.map_err(|error| failure(error.error()))?;
            if path.is_file() {
                found.push(path.to_string_lossy().into_owned());
            }
        }
        found.sort();
        Ok(found)
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "error kinds are an open set")]
fn failure(error: &io::Error) -> SourceError {
    match error.kind() {
        io::ErrorKind::NotFound => SourceError::NotFound,
        io::ErrorKind::PermissionDenied => SourceError::PermissionDenied,
        _ => SourceError::System(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use elvs_config::Source;

    use super::{Files, read};

    #[test]
    fn reads_a_file_and_its_includes_from_disk() {
        let directory = tempfile::tempdir().unwrap();
        let main = directory.path().join("main.conf");
        fs::write(&main, "include services/*.conf\n").unwrap();
        fs::create_dir(directory.path().join("services")).unwrap();
        fs::write(
            directory.path().join("services/web.conf"),
            "virtual_server 192.0.2.1 80 {\n lvs_sched rr\n lvs_method DR\n protocol TCP\n real_server 192.0.2.2 80 {\n weight 1\n }\n}\n",
        )
        .unwrap();
        let outcome = read(main.to_str().unwrap());
        let desired = outcome.desired.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
        assert_eq!(desired.services.len(), 1);
    }

    #[test]
    fn refuses_what_is_no_regular_file() {
        assert!(Files.read("/").is_err());
        assert!(Files.read("/nonexistent").is_err());
    }
}
