//! Time zone abbreviations, as PostgreSQL's default set (`timezone_abbreviations = 'Default'`) defines them.
//!
//! In: a lower-case word. Out: an offset, or a zone that gives it at that date. Never: the other sets.

/// What an abbreviation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abbreviation {
    /// Seconds east of Greenwich.
    Fixed(i32),
    /// Likewise, and it names daylight-saving time.
    Daylight(i32),
    /// The offset this zone had at the date in question.
    Zone(&'static str),
}

/// The meaning of a lower-case abbreviation.
pub(super) fn look_up(word: &str) -> Option<Abbreviation> {
    TABLE.binary_search_by(|(name, _)| (*name).cmp(word)).ok().map(|i| TABLE[i].1)
}

use Abbreviation::{Daylight, Fixed, Zone};

/// Sorted by name.
#[rustfmt::skip]
const TABLE: &[(&str, Abbreviation)] = &[
    ("acdt", Daylight(37800)), ("acsst", Daylight(37800)), ("acst", Fixed(34200)), ("act", Fixed(-18000)),
    ("acwst", Fixed(31500)), ("adt", Daylight(-10800)), ("aedt", Daylight(39600)), ("aesst", Daylight(39600)),
    ("aest", Fixed(36000)), ("aft", Fixed(16200)), ("akdt", Daylight(-28800)), ("akst", Fixed(-32400)),
    ("almst", Daylight(25200)), ("almt", Fixed(21600)), ("amst", Zone("Asia/Yerevan")), ("amt", Fixed(-14400)),
    ("anast", Zone("Asia/Anadyr")), ("anat", Zone("Asia/Anadyr")), ("arst", Zone("America/Argentina/Buenos_Aires")),
    ("art", Zone("America/Argentina/Buenos_Aires")), ("ast", Fixed(-14400)), ("awsst", Daylight(32400)),
    ("awst", Fixed(28800)), ("azost", Daylight(0)), ("azot", Fixed(-3600)), ("azst", Zone("Asia/Baku")),
    ("azt", Zone("Asia/Baku")), ("bdst", Daylight(7200)), ("bdt", Fixed(21600)), ("bnt", Fixed(28800)),
    ("bort", Fixed(28800)), ("bot", Fixed(-14400)), ("bra", Fixed(-10800)), ("brst", Daylight(-7200)),
    ("brt", Fixed(-10800)), ("bst", Daylight(3600)), ("btt", Fixed(21600)), ("cadt", Daylight(37800)),
    ("cast", Fixed(34200)), ("cct", Fixed(28800)), ("cdt", Daylight(-18000)), ("cest", Daylight(7200)),
    ("cet", Fixed(3600)), ("cetdst", Daylight(7200)), ("chadt", Daylight(49500)), ("chast", Fixed(45900)),
    ("chut", Fixed(36000)), ("ckt", Zone("Pacific/Rarotonga")), ("clst", Daylight(-10800)),
    ("clt", Zone("America/Santiago")), ("cot", Fixed(-18000)), ("cst", Fixed(-21600)), ("cxt", Fixed(25200)),
    ("davt", Zone("Antarctica/Davis")), ("ddut", Fixed(36000)), ("easst", Zone("Pacific/Easter")),
    ("east", Zone("Pacific/Easter")), ("eat", Fixed(10800)), ("edt", Daylight(-14400)), ("eest", Daylight(10800)),
    ("eet", Fixed(7200)), ("eetdst", Daylight(10800)), ("egst", Daylight(0)), ("egt", Fixed(-3600)),
    ("est", Fixed(-18000)), ("fet", Fixed(10800)), ("fjst", Daylight(46800)), ("fjt", Fixed(43200)),
    ("fkst", Zone("Atlantic/Stanley")), ("fkt", Zone("Atlantic/Stanley")), ("fnst", Daylight(-3600)),
    ("fnt", Fixed(-7200)), ("galt", Fixed(-21600)), ("gamt", Fixed(-32400)), ("gest", Zone("Asia/Tbilisi")),
    ("get", Zone("Asia/Tbilisi")), ("gft", Fixed(-10800)), ("gilt", Fixed(43200)), ("gmt", Fixed(0)),
    ("gyt", Zone("America/Guyana")), ("hkt", Fixed(28800)), ("hst", Fixed(-36000)), ("ict", Fixed(25200)),
    ("idt", Daylight(10800)), ("iot", Zone("Indian/Chagos")), ("irkst", Zone("Asia/Irkutsk")),
    ("irkt", Zone("Asia/Irkutsk")), ("irt", Fixed(12600)), ("ist", Fixed(7200)), ("jayt", Fixed(32400)),
    ("jst", Fixed(32400)), ("kdt", Daylight(36000)), ("kgst", Daylight(21600)), ("kgt", Zone("Asia/Bishkek")),
    ("kost", Zone("Pacific/Kosrae")), ("krast", Zone("Asia/Krasnoyarsk")), ("krat", Zone("Asia/Krasnoyarsk")),
    ("kst", Fixed(32400)), ("lhdt", Zone("Australia/Lord_Howe")), ("lhst", Fixed(37800)), ("ligt", Fixed(36000)),
    ("lint", Zone("Pacific/Kiritimati")), ("lkt", Zone("Asia/Colombo")), ("magst", Zone("Asia/Magadan")),
    ("magt", Zone("Asia/Magadan")), ("mart", Fixed(-34200)), ("mawt", Zone("Antarctica/Mawson")),
    ("mdt", Daylight(-21600)), ("mest", Daylight(7200)), ("mesz", Daylight(7200)), ("met", Fixed(3600)),
    ("metdst", Daylight(7200)), ("mez", Fixed(3600)), ("mht", Fixed(43200)), ("mmt", Fixed(23400)),
    ("mpt", Fixed(36000)), ("msd", Daylight(14400)), ("msk", Zone("Europe/Moscow")), ("mst", Fixed(-25200)),
    ("must", Daylight(18000)), ("mut", Fixed(14400)), ("mvt", Fixed(18000)), ("myt", Fixed(28800)),
    ("ndt", Daylight(-9000)), ("nft", Fixed(-12600)), ("novst", Zone("Asia/Novosibirsk")),
    ("novt", Zone("Asia/Novosibirsk")), ("npt", Fixed(20700)), ("nst", Fixed(-12600)), ("nut", Zone("Pacific/Niue")),
    ("nzdt", Daylight(46800)), ("nzst", Fixed(43200)), ("nzt", Fixed(43200)), ("omsst", Zone("Asia/Omsk")),
    ("omst", Zone("Asia/Omsk")), ("pdt", Daylight(-25200)), ("pet", Fixed(-18000)), ("petst", Zone("Asia/Kamchatka")),
    ("pett", Zone("Asia/Kamchatka")), ("pgt", Fixed(36000)), ("pht", Fixed(28800)), ("pkst", Daylight(21600)),
    ("pkt", Fixed(18000)), ("pmdt", Daylight(-7200)), ("pmst", Fixed(-10800)), ("pont", Fixed(39600)),
    ("pst", Fixed(-28800)), ("pwt", Fixed(32400)), ("pyst", Daylight(-10800)), ("pyt", Zone("America/Asuncion")),
    ("ret", Fixed(14400)), ("sadt", Daylight(37800)), ("sast", Fixed(7200)), ("sct", Fixed(14400)),
    ("sgt", Zone("Asia/Singapore")), ("taht", Fixed(-36000)), ("tft", Fixed(18000)), ("tjt", Fixed(18000)),
    ("tkt", Zone("Pacific/Fakaofo")), ("tmt", Zone("Asia/Ashgabat")), ("tot", Fixed(46800)), ("trut", Fixed(36000)),
    ("tvt", Fixed(43200)), ("uct", Fixed(0)), ("ulast", Daylight(32400)), ("ulat", Zone("Asia/Ulaanbaatar")),
    ("ut", Fixed(0)), ("utc", Fixed(0)), ("uyst", Daylight(-7200)), ("uyt", Fixed(-10800)), ("uzst", Daylight(21600)),
    ("uzt", Fixed(18000)), ("vet", Zone("America/Caracas")), ("vlast", Zone("Asia/Vladivostok")),
    ("vlat", Zone("Asia/Vladivostok")), ("volt", Zone("Europe/Volgograd")), ("vut", Fixed(39600)),
    ("wadt", Daylight(28800)), ("wakt", Fixed(43200)), ("wast", Fixed(25200)), ("wat", Fixed(3600)),
    ("wdt", Daylight(32400)), ("wet", Fixed(0)), ("wetdst", Daylight(3600)), ("wft", Fixed(43200)),
    ("wgst", Daylight(-7200)), ("wgt", Fixed(-10800)), ("xjt", Fixed(21600)), ("yakst", Zone("Asia/Yakutsk")),
    ("yakt", Zone("Asia/Yakutsk")), ("yapt", Fixed(36000)), ("yekst", Daylight(21600)),
    ("yekt", Zone("Asia/Yekaterinburg")), ("z", Fixed(0)), ("zulu", Fixed(0)),
];
