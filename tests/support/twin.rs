//! A site and its twin: the same tables unsealed, in another cluster, without a proxy.

use super::{Frame, PASSWORD, Site, SiteBuilder, Wire, twins};
use pgveil::wire::message;

/// pgveil over sealed columns, and PostgreSQL over plain ones.
pub struct Pair {
    /// With the proxy.
    pub site: Site,
    database: String,
}

impl Pair {
    /// `builder` without a schema, and the schema of both.
    pub fn start(builder: SiteBuilder, schema: &str) -> Self {
        let site = builder.schema(schema).start();
        let database = format!("{}_twin", site.database);
        twins().sql("postgres", &format!("create database {database} owner app")).unwrap();
        twins().sql_as("app", PASSWORD, &database, schema).unwrap();
        Self { site, database }
    }

    /// Port and database of the twin.
    pub fn direct(&self) -> (u16, &str) {
        (twins().port(), &self.database)
    }

    /// The role `app` through pgveil, and direct.
    pub fn wires(&self) -> [Wire; 2] {
        let veiled = Wire::login(self.site.port(), "app", &self.site.database);
        [veiled, Wire::login(twins().port(), "app", &self.database)]
    }
}

/// What is the same for two databases: no table's oid, no words of an error.
pub fn shown(frame: &Frame) -> String {
    match frame.tag {
        b'T' => {
            let fields = message::row_description(&frame.body).unwrap();
            let field = |f: &message::FieldDescription<'_>| {
                format!("{} {} {} {} {}", String::from_utf8_lossy(f.name), f.type_oid, f.size, f.typmod, f.format)
            };
            format!("T {}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        tag @ (b'E' | b'N') => format!("{} {}", char::from(tag), frame.field(b'C').unwrap_or_default()),
        tag => format!("{} {}", char::from(tag), frame.body.escape_ascii()),
    }
}
