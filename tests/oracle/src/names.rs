//! Relations and columns that PostgreSQL's parse tree names: which relation a column belongs to is told by scopes, as
//! PostgreSQL would. Where only the catalog could tell (columns of functions and subqueries, outputs in ORDER BY), no
//! column is demanded.

use std::collections::HashSet;

use serde_json::Value;

use super::catalog::Named;
use super::tree::{Fields, Statement, flag, list, node, number, of, string, text};

/// What the statements of a text name.
#[derive(Debug, Default)]
pub struct Names {
    pub relations: Vec<Named>,
    /// (index of the relation, column) that a query or data change uses.
    pub columns: HashSet<(usize, String)>,
    /// Names that may mean an output, a renamed column, a column of a subquery or of another relation.
    doubtful: HashSet<String>,
    /// Columns named without their relation.
    bare: HashSet<String>,
}

/// One entry of FROM.
#[derive(Clone)]
struct Entry {
    name: String,
    aliased: bool,
    relation: Option<usize>,
}

#[derive(Default)]
struct Walk {
    names: Names,
    ctes: Vec<String>,
    temporary: Vec<String>,
    scopes: Vec<Vec<Entry>>,
    /// pgveil reads the statement. Other definitions (functions, policies, statistics) are the server's business.
    read: bool,
}

/// See [`Names`].
pub fn names(statements: &[Statement]) -> Names {
    let mut walk = Walk::default();
    for statement in statements {
        walk.read = is_read(&statement.node)
            || matches!(
                statement.node.as_str(),
                "CopyStmt" | "ExplainStmt" | "PrepareStmt" | "DeclareCursorStmt" | "CreateTableAsStmt" | "ViewStmt"
            );
        walk.node(&statement.node, &statement.fields);
    }
    walk.names
}

impl Names {
    /// Columns that some use is certain of.
    pub fn certain(&self) -> impl Iterator<Item = &(usize, String)> {
        let others = |relation: usize, column: &String| {
            let same = |(index, named): (usize, &Named)| index != relation && named.columns.contains(column);
            self.bare.contains(column) && self.relations.iter().enumerate().any(same)
        };
        self.columns
            .iter()
            .filter(move |(relation, column)| !self.doubtful.contains(column) && !others(*relation, column))
    }
}

/// Statements of which pgveil reads the tree.
fn is_read(node: &str) -> bool {
    matches!(node, "SelectStmt" | "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt")
}

const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"];

impl Walk {
    fn any(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.any(item)),
            Value::Object(fields) => match node(value) {
                Some((name, fields)) => self.node(name, fields),
                None => self.others(fields, &["node"]),
            },
            _ => {}
        }
    }

    fn field(&mut self, fields: &Fields, name: &str) {
        if let Some(value) = fields.get(name) {
            self.any(value);
        }
    }

    fn others(&mut self, fields: &Fields, without: &[&str]) {
        for (name, value) in fields {
            // Structs without a node around them.
            let struct_name = match name.as_str() {
                "type_name" => "TypeName",
                "into" => "IntoClause",
                _ => "",
            };
            match value.as_object() {
                _ if without.contains(&name.as_str()) => {}
                Some(inner) if !struct_name.is_empty() => self.node(struct_name, inner),
                _ => self.any(value),
            }
        }
    }

    fn node(&mut self, name: &str, fields: &Fields) {
        if is_read(name) {
            let (ctes, scopes) = (self.ctes.len(), self.scopes.len());
            self.with(fields);
            match name {
                "SelectStmt" => self.select(fields),
                "InsertStmt" => self.insert(fields),
                _ => self.change(name, fields),
            }
            self.ctes.truncate(ctes);
            self.scopes.truncate(scopes);
            return;
        }
        match name {
            "RangeVar" => {
                self.relation(fields, !self.scopes.is_empty());
            }
            "ColumnRef" => self.column_ref(fields),
            "AIndirection" => {
                self.row_field(fields);
                self.others(fields, &[]);
            }
            "CopyStmt" => {
                if let Some(relation) = fields.get("relation").and_then(Value::as_object)
                    && let Some(relation) = self.relation(relation, true)
                {
                    for column in list(fields, "attlist").iter().filter_map(string) {
                        self.use_column(relation, column);
                    }
                }
                self.field(fields, "query");
            }
            // A modifier of a type (`numeric(a)`) looks like a column.
            "LockingClause" | "TypeName" => {}
            // Its arguments hold no columns either.
            "RangeTableSample" => self.field(fields, "relation"),
            // Only LATERAL sees what stands beside it.
            "RangeSubselect" if !flag(fields, "lateral") => {
                let beside = self.scopes.pop();
                self.aliases(fields.get("alias"));
                self.others(fields, &[]);
                self.scopes.extend(beside);
            }
            "CreateStmt" => {
                self.created(fields.get("relation"));
                self.others(fields, &[]);
            }
            "IntoClause" => self.created(fields.get("rel")),
            "JoinExpr" => {
                self.aliases(fields.get("alias"));
                self.others(fields, &["using_clause"]);
            }
            _ => {
                self.aliases(fields.get("alias"));
                self.others(fields, &[]);
            }
        }
    }

    fn with(&mut self, fields: &Fields) {
        let Some(with) = fields.get("with_clause").and_then(Value::as_object) else { return };
        let ctes: Vec<&Fields> = list(with, "ctes").iter().filter_map(|cte| of(cte, "CommonTableExpr")).collect();
        let recursive = flag(with, "recursive");
        if recursive {
            self.ctes.extend(ctes.iter().map(|cte| text(cte, "ctename").to_owned()));
        }
        for cte in ctes {
            self.doubt(list(cte, "aliascolnames"));
            for clause in ["search_clause", "cycle_clause"] {
                if let Some(clause) = cte.get(clause).and_then(Value::as_object) {
                    for name in ["search_seq_column", "cycle_mark_column", "cycle_path_column"] {
                        self.names.doubtful.insert(text(clause, name).to_owned());
                    }
                }
            }
            self.field(cte, "ctequery");
            if !recursive {
                self.ctes.push(text(cte, "ctename").to_owned());
            }
        }
    }

    fn doubt(&mut self, names: &[Value]) {
        self.names.doubtful.extend(names.iter().filter_map(string).map(str::to_owned));
    }

    /// `AS t(a, b)`: whatever a and b were, they are called so now; and a table's own name may mean its row.
    fn aliases(&mut self, alias: Option<&Value>) {
        if let Some(alias) = alias.and_then(Value::as_object) {
            self.doubt(list(alias, "colnames"));
        }
    }

    fn select(&mut self, fields: &Fields) {
        let mut entries = Vec::new();
        for item in list(fields, "from_clause") {
            self.entries(item, &mut entries);
        }
        self.scopes.push(entries);
        let outputs = list(fields, "target_list").iter().filter_map(|target| of(target, "ResTarget"));
        for target in outputs {
            self.names.doubtful.insert(text(target, "name").to_owned());
        }
        self.using(list(fields, "from_clause"));
        // What they sort by may be an output of any name.
        let sorts = ["sort_clause", "distinct_clause", "group_clause"];
        self.created(fields.get("into_clause").and_then(|into| into.get("rel")));
        // LIMIT and OFFSET hold no columns; the server refuses them.
        let read = ["with_clause", "locking_clause", "into_clause", "limit_offset", "limit_count", "larg", "rarg"];
        self.others(fields, &[&read[..], &sorts].concat());
        for sort in sorts {
            for item in list(fields, sort) {
                let item = of(item, "SortBy").and_then(|sort| sort.get("node")).unwrap_or(item);
                if of(item, "ColumnRef").is_none_or(|column| list(column, "fields").len() > 1)
                    && number(fields, "op") <= 1
                {
                    self.any(item);
                }
            }
        }
        self.scopes.pop();
        for branch in ["larg", "rarg"] {
            if let Some(branch) = fields.get(branch).and_then(Value::as_object) {
                self.node("SelectStmt", branch);
            }
        }
    }

    /// What the names of one item of FROM mean.
    fn entries(&mut self, item: &Value, entries: &mut Vec<Entry>) {
        let Some((kind, fields)) = node(item) else { return };
        match kind {
            "RangeVar" => {
                let relation = self.relation(fields, true);
                // Under `AS t(a, b)` only the catalog knows which column is which.
                let renamed = fields.get("alias").and_then(|alias| alias.get("colnames")?.as_array());
                let relation = relation.filter(|_| renamed.is_none_or(Vec::is_empty));
                entries.push(Entry { name: shown(fields), aliased: is_aliased(fields), relation });
                self.aliases(fields.get("alias"));
            }
            "RangeTableSample" => {
                if let Some(relation) = fields.get("relation") {
                    self.entries(relation, entries);
                }
            }
            // Its name hides those inside.
            "JoinExpr" if is_aliased(fields) => {
                let name = fields.get("alias").and_then(Value::as_object).map_or("", |alias| text(alias, "aliasname"));
                entries.push(Entry { name: name.to_owned(), aliased: true, relation: None });
            }
            "JoinExpr" => {
                for side in ["larg", "rarg"] {
                    if let Some(side) = fields.get(side) {
                        self.entries(side, entries);
                    }
                }
                self.aliases(fields.get("alias"));
            }
            _ => {
                let name = fields.get("alias").and_then(Value::as_object).map_or("", |alias| text(alias, "aliasname"));
                entries.push(Entry { name: name.to_owned(), aliased: true, relation: None });
            }
        }
    }

    /// USING: a column of every relation joined.
    fn using(&mut self, items: &[Value]) {
        for fields in items.iter().filter_map(|item| of(item, "JoinExpr")) {
            let mut entries = Vec::new();
            for side in ["larg", "rarg"] {
                let Some(side) = fields.get(side) else { continue };
                self.using(std::slice::from_ref(side));
                self.entries(side, &mut entries);
            }
            for column in list(fields, "using_clause").iter().filter_map(string) {
                self.names.doubtful.insert(column.to_owned());
                if let [.., Entry { relation: Some(relation), .. }] = entries.as_slice() {
                    self.use_column(*relation, column);
                }
            }
        }
    }

    fn target(&mut self, fields: &Fields) -> Option<(usize, Entry)> {
        let target = fields.get("relation").and_then(Value::as_object)?;
        // What is written is never a query of WITH.
        let ctes = std::mem::take(&mut self.ctes);
        let relation = self.relation(target, true);
        self.ctes = ctes;
        self.aliases(target.get("alias"));
        Some((relation?, Entry { name: shown(target), aliased: is_aliased(target), relation }))
    }

    fn insert(&mut self, fields: &Fields) {
        let target = self.target(fields);
        self.field(fields, "select_stmt");
        let Some((relation, entry)) = target else { return };
        self.assigned(relation, list(fields, "cols"));
        // The row that was sent: nothing stored is read.
        let excluded = Entry { name: "excluded".to_owned(), aliased: true, relation: None };
        self.scopes.push(vec![entry]);
        self.field(fields, "returning_list");
        if let Some(conflict) = fields.get("on_conflict_clause").and_then(Value::as_object) {
            if let Some(infer) = conflict.get("infer").and_then(Value::as_object) {
                for element in list(infer, "index_elems").iter().filter_map(|element| of(element, "IndexElem")) {
                    self.use_column(relation, text(element, "name"));
                }
                self.any(&Value::Object(infer.clone()));
            }
            self.assigned(relation, list(conflict, "target_list"));
            // Unqualified names mean the table's.
            self.scopes.insert(self.scopes.len() - 1, vec![excluded]);
            self.others(conflict, &["infer"]);
            self.scopes.remove(self.scopes.len() - 2);
        }
        self.scopes.pop();
    }

    /// UPDATE, DELETE, MERGE.
    fn change(&mut self, name: &str, fields: &Fields) {
        let Some((relation, entry)) = self.target(fields) else { return };
        let mut entries = vec![entry];
        for list_of in ["from_clause", "using_clause"] {
            for item in list(fields, list_of) {
                self.entries(item, &mut entries);
            }
        }
        if let Some(source) = fields.get("source_relation") {
            self.entries(source, &mut entries);
        }
        self.scopes.push(entries);
        if name == "UpdateStmt" {
            self.assigned(relation, list(fields, "target_list"));
        }
        for clause in list(fields, "merge_when_clauses").iter().filter_map(|clause| of(clause, "MergeWhenClause")) {
            self.assigned(relation, list(clause, "target_list"));
        }
        self.using(list(fields, "from_clause"));
        self.using(list(fields, "using_clause"));
        self.others(fields, &["with_clause", "relation", "merge_when_clauses"]);
        for clause in list(fields, "merge_when_clauses") {
            let unmatched = of(clause, "MergeWhenClause").is_some_and(|clause| number(clause, "match_kind") == 3);
            // There is no row of the target then.
            let target = self.scopes.last_mut().filter(|_| unmatched).map(|scope| scope.remove(0));
            self.any(clause);
            if let (Some(target), Some(scope)) = (target, self.scopes.last_mut()) {
                scope.insert(0, target);
            }
        }
        self.scopes.pop();
    }

    fn assigned(&mut self, relation: usize, targets: &[Value]) {
        for target in targets.iter().filter_map(|target| of(target, "ResTarget")) {
            self.use_column(relation, text(target, "name"));
        }
    }

    /// A temporary relation hides others of its name in the statements behind.
    fn created(&mut self, relation: Option<&Value>) {
        let Some(relation) = relation.and_then(Value::as_object) else { return };
        if text(relation, "relpersistence") == "t" || text(relation, "schemaname") == "pg_temp" {
            self.temporary.push(text(relation, "relname").to_owned());
        }
    }

    /// The relation that a name means, unless it is a query of WITH.
    fn relation(&mut self, fields: &Fields, required: bool) -> Option<usize> {
        let (schema, name) = (text(fields, "schemaname"), text(fields, "relname"));
        let bare = schema.is_empty();
        let hidden = self.ctes.iter().chain(&self.temporary).any(|other| other == name);
        if (bare && hidden) || name.is_empty() {
            return None;
        }
        let foreign = !text(fields, "catalogname").is_empty();
        if foreign
            || matches!(schema, "pg_catalog" | "information_schema" | "pg_toast")
            || schema.starts_with("pg_temp")
        {
            return None;
        }
        let schema = if bare { "public" } else { schema };
        let same = |known: &Named| known.schema == schema && known.name == name;
        if let Some(index) = self.names.relations.iter().position(same) {
            self.names.relations[index].required |= required && self.read;
            return Some(index);
        }
        let (schema, name) = (schema.to_owned(), name.to_owned());
        let required = required && self.read;
        self.names.relations.push(Named { schema, name, columns: Vec::new(), required });
        Some(self.names.relations.len() - 1)
    }

    fn use_column(&mut self, relation: usize, column: &str) {
        if column.is_empty() || SYSTEM_COLUMNS.contains(&column) {
            return;
        }
        let columns = &mut self.names.relations[relation].columns;
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
        if self.read {
            self.names.columns.insert((relation, column.to_owned()));
        }
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.scopes.iter().rev().flatten().find(|entry| entry.name == name)
    }

    fn column_ref(&mut self, fields: &Fields) {
        let names: Vec<&str> = list(fields, "fields").iter().map_while(string).collect();
        let star = names.len() < list(fields, "fields").len();
        match names.as_slice() {
            _ if star => {}
            [column] => self.bare(column),
            [table, column] => {
                if let Some(relation) = self.entry(table).and_then(|entry| entry.relation) {
                    self.use_column(relation, column);
                }
            }
            [schema, table, column] => {
                let found = self.entry(table).filter(|entry| !entry.aliased).and_then(|entry| entry.relation);
                if let Some(relation) = found.filter(|relation| self.names.relations[*relation].schema == *schema) {
                    self.use_column(relation, column);
                }
            }
            _ => {}
        }
    }

    /// A column of the nearest relation; in doubt where something else there could have one of that name.
    fn bare(&mut self, column: &str) {
        // A row, unless it is a column, which would come first.
        if self.entry(column).is_some() {
            return;
        }
        self.names.bare.insert(column.to_owned());
        for scope in self.scopes.iter().rev() {
            let known: Vec<usize> = scope.iter().filter_map(|entry| entry.relation).collect();
            let twice = known.first().is_some_and(|first| known[1..].contains(first));
            if twice || known.len() < scope.len() {
                self.names.doubtful.insert(column.to_owned());
            }
            if let Some(relation) = known.first() {
                return self.use_column(*relation, column);
            }
        }
    }

    /// `(t).c`.
    fn row_field(&mut self, fields: &Fields) {
        let Some(row) = fields.get("arg").and_then(|arg| of(arg, "ColumnRef")) else { return };
        let names: Vec<&str> = list(row, "fields").iter().filter_map(string).collect();
        let field = list(fields, "indirection").first().and_then(string);
        if let ([.., name], Some(field)) = (names.as_slice(), field)
            && let Some(Entry { relation: Some(relation), .. }) = self.entry(name)
        {
            self.use_column(*relation, field);
        }
    }
}

fn is_aliased(fields: &Fields) -> bool {
    fields.get("alias").is_some_and(Value::is_object)
}

/// What an entry is called.
fn shown(fields: &Fields) -> String {
    let alias = fields.get("alias").and_then(Value::as_object).map(|alias| text(alias, "aliasname"));
    alias.unwrap_or(text(fields, "relname")).to_owned()
}
