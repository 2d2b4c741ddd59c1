//! What is remembered of the values of a watched object.

use serde::{Deserialize, Serialize};

/// Hashes of values of an object, by hashes of the expressions that give them; and values that rules compare with.
///
/// As JSON it is the list of the hashes where there is nothing else. The second field takes the 8 bytes that a boxed slice has less than a `Vec`: most
/// objects have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Values {
    /// By what they are kept by.
    pub hashes: Box<[(u64, u64)]>,
    /// What rules see of the object as `oldObject` when it changes next.
    pub old: Option<Box<Old>>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Hashes(Box<[(u64, u64)]>),
    Both { hashes: Box<[(u64, u64)]>, old: Box<Old> },
}

impl From<Written> for Values {
    fn from(written: Written) -> Self {
        match written {
            Written::Hashes(hashes) => Self { hashes, old: None },
            Written::Both { hashes, old } => Self { hashes, old: Some(old) },
        }
    }
}

impl From<Values> for Written {
    fn from(Values { hashes, old }: Values) -> Self {
        match old {
            None => Self::Hashes(hashes),
            Some(old) => Self::Both { hashes, old },
        }
    }
}

impl Values {
    /// Of nothing but hashes.
    pub fn of(hashes: Vec<(u64, u64)>) -> Self {
        Self { hashes: hashes.into(), old: None }
    }

    /// What was kept of the value at the place of this id.
    pub fn old(&self, id: u64) -> Option<&Kept> {
        self.old.as_ref()?.get(id)
    }

    /// The hash of the value that the expression of this id gave.
    pub fn get(&self, id: u64) -> Option<u64> {
        self.hashes.iter().find(|(known, _)| *known == id).map(|(_, value)| *value)
    }
}

/// Values of an object as it was, by hashes of where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Old(pub Vec<(u64, Kept)>);

impl Old {
    /// What was kept of the value at the place of this id.
    pub fn get(&self, id: u64) -> Option<&Kept> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, kept)| kept)
    }
}

/// A value of an object as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kept {
    /// As JSON.
    Json(Box<str>),
    /// There was none; so many keys on the way to it were there.
    Nothing(u8),
    /// It was too large to be kept: always true.
    TooLarge(bool),
}
