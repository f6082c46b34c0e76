//! Parameters that keepalived defines itself: `_PWD`, `_INSTANCE`, `_ENV`, `_RANDOM`, `_HASH` and `_BANG`.
//!
//! **Invariant:** the same files, environment and configuration id give the same values, every time.
//!
//! Called by the reader of lines for names that the configuration does not define.

use super::Reader;
use crate::diagnostic::Code;
use crate::source::directory;
use crate::sources::Extent;
use crate::text::quote;

impl Reader<'_> {
    /// Values that keepalived defines itself.
    pub(super) fn builtin(&mut self, name: &str, arguments: &str, at: Extent) -> Option<String> {
        match name {
            "_PWD" => self.open.last().map(|f| directory(self.sources.name(*f)).to_owned()),
            "_INSTANCE" => Some(self.config_id.to_owned()),
            "_HASH" => Some("#".to_owned()),
            "_BANG" => Some("!".to_owned()),
            "_ENV" => {
                let value = self.source.environment(arguments);
                if value.is_none() {
                    let message = format!("environment variable `{arguments}` is not set");
                    self.reporter.error(Code::UndefinedParameter, at, message).help(
                        "set it where the program is started; it is read when the file is read",
                    );
                }
                Some(value.unwrap_or_default())
            }
            "_RANDOM" => Some(self.random(arguments, at)),
            _ => None,
        }
    }

    /// The next number of `_RANDOM MIN MAX`.
    ///
    /// Unlike keepalived's it depends on the node's name and the place in the configuration alone, so that a reload
    /// changes nothing by itself and `elvs check` sees what `elvs run` will.
    fn random(&mut self, arguments: &str, at: Extent) -> String {
        let limits: Result<Vec<u64>, _> = arguments.split_whitespace().map(str::parse).collect();
        let (least, most) = match limits.as_deref() {
            Ok([]) => (0, 32_767),
            Ok([least]) => (*least, 32_767),
            Ok([least, most]) => (*least, *most),
            Ok(_) | Err(_) => (1, 0),
        };
        if least > most {
            let message = format!("{} is no range of `_RANDOM`", quote(arguments));
            self.reporter
                .error(Code::InvalidValue, at, message)
                .help("write `${_RANDOM}`, `${_RANDOM MIN}` or `${_RANDOM MIN MAX}`, MAX not below MIN and at most 32767 if not given");
            return String::new();
        }
        self.random_numbers = self.random_numbers.wrapping_add(1);
        // FNV-1a of the name and the number's place, mixed as in splitmix64.
        let seed = self.config_id.bytes().chain(self.random_numbers.to_le_bytes());
        let hash = seed.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        let number = match (most - least).checked_add(1) {
            Some(range) => least + mixed % range,
            None => mixed,
        };
        number.to_string()
    }
}
