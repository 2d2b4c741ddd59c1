//! The rows of the view: the state folded from the log, as bytes that the bus stores without knowing them.

/// Changed rows of the view: a key and its new value, or nothing when the row is gone.
pub type Delta = Vec<(Table, Vec<u8>, Option<Vec<u8>>)>;

/// The tables of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Rules: spec, counts, recent firings. Key: rule uid.
    Rules,
    /// State per group. Key: rule uid, 0, group.
    Groups,
    /// Open firings: read one by one, when their turn comes. Key: firing id.
    Firings,
    /// What memory holds of every open firing ([`crate::record::Brief`]). Key: firing id.
    FiringIndex,
    /// What watches remember. Key: watch, 0, uid.
    Watches,
    /// Single values. Key: name.
    Meta,
    /// Which dead letters are kept: rule and place in the order. Key: firing id.
    DeadLetterIndex,
    /// The dead letters themselves: read one by one with [`crate::bus::Bus::row`], not at a start. Key: firing id.
    DeadLetters,
}

impl Table {
    /// Whether a start reads its rows. Those of the others may be more than fits in memory.
    pub fn is_read_at_start(self) -> bool {
        !matches!(self, Self::Firings | Self::DeadLetters)
    }
}

/// All tables, for whoever goes through them.
pub const TABLES: [Table; 8] = [
    Table::Rules,
    Table::Groups,
    Table::Firings,
    Table::FiringIndex,
    Table::Watches,
    Table::Meta,
    Table::DeadLetterIndex,
    Table::DeadLetters,
];
