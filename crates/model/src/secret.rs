use std::fmt;

use serde::{Deserialize, Serialize};

/// 256 secret bits that never show in a log, an error or a `Debug` form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A fresh secret from the operating system's generator.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, which leaves nothing safe to do.
    pub fn random() -> Self {
        Self(crate::ids::random_bytes())
    }

    /// Wraps bytes that came from elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, for a MAC.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_in_no_debug_form() {
        assert_eq!(
            format!("{:?} {:#?}", Secret::from_bytes([65; 32]), Secret::random()),
            "Secret(…) Secret(…)"
        );
    }
}
