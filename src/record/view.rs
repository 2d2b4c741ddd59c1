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
    /// Open firings. Key: firing id.
    Firings,
    /// What watches remember. Key: watch, 0, uid.
    Watches,
    /// Single values. Key: name.
    Meta,
}

/// All tables, for whoever goes through them.
pub const TABLES: [Table; 5] = [Table::Rules, Table::Groups, Table::Firings, Table::Watches, Table::Meta];
