//! Where the columns of a view come from, out of the stored query tree (`pg_rewrite.ev_action`).
//!
//! PostgreSQL's parser marks every output column that is a plain column of a relation with `resorigtbl` and
//! `resorigcol` (`markTargetListOrigins` in `parse_target.c`; the same marks RowDescription sends), looking through
//! joins, subqueries and CTEs. So nothing is parsed as SQL here, and what is not marked is not guessed.

/// (output column, (relation, column)) for every output column that shows a relation's column unchanged.
///
/// The text is `nodeToString` output: nodes in braces, lists in parentheses, `:field value`, backslash before special
/// characters inside tokens.
pub(super) fn origins(tree: &str) -> Vec<(i16, (u32, i16))> {
    let mut found = Vec::new();
    let mut entry = Entry::default();
    let (mut depth, mut inside, mut field) = (0u32, false, "");
    for token in Tokens(tree) {
        match token {
            "{" | "(" => {
                depth += 1;
                if depth == ENTRY_DEPTH {
                    entry = Entry::default();
                }
            }
            "}" | ")" => {
                if inside && depth == ENTRY_DEPTH && token == "}" {
                    found.extend(entry.origin());
                }
                depth = depth.saturating_sub(1);
            }
            name if name.starts_with(':') => {
                field = name;
                // The outermost query's own list, not that of a subquery.
                if depth == QUERY_DEPTH {
                    inside = name == ":targetList";
                }
            }
            value if inside && depth == ENTRY_DEPTH => entry.set(field, value),
            _ => {}
        }
    }
    found
}

/// `({QUERY :targetList …` — the rule's actions are a list of one query.
const QUERY_DEPTH: u32 = 2;

/// `… ({TARGETENTRY …`
const ENTRY_DEPTH: u32 = 4;

#[derive(Default)]
struct Entry {
    number: i16,
    table: u32,
    column: i16,
    junk: bool,
}

impl Entry {
    fn set(&mut self, field: &str, value: &str) {
        match field {
            ":resno" => self.number = value.parse().unwrap_or(0),
            ":resorigtbl" => self.table = value.parse().unwrap_or(0),
            ":resorigcol" => self.column = value.parse().unwrap_or(0),
            ":resjunk" => self.junk = value != "false",
            _ => {}
        }
    }

    fn origin(&self) -> Option<(i16, (u32, i16))> {
        let real = self.number > 0 && self.table > 0 && self.column > 0 && !self.junk;
        real.then_some((self.number, (self.table, self.column)))
    }
}

/// `pg_strtok`'s tokens (`read.c`): white space separates, braces and parentheses stand alone, a backslash takes the
/// next character with it.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches([' ', '\n', '\t']);
        let bytes = self.0.as_bytes();
        let end = match bytes.first()? {
            b'{' | b'}' | b'(' | b')' => 1,
            _ => {
                let mut end = 0;
                while end < bytes.len() && !b" \n\t{}()".contains(&bytes[end]) {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                end.min(bytes.len())
            }
        };
        // An escaped character may have several bytes.
        let end = (end..=bytes.len()).find(|at| self.0.is_char_boundary(*at)).unwrap_or(bytes.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "({QUERY :commandType 1 :rtable ({RTE :eref {ALIAS :aliasname a\\ \\{b :colnames (\"x\" \"y\")} \
        :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :varno 1} :resno 1 :resname z :resorigtbl 9 :resorigcol 9 \
        :resjunk false}) :limit <>}}) :targetList ({TARGETENTRY :expr {VAR :varno 1 :varattno 2} :resno 1 :resname id \
        :ressortgroupref 0 :resorigtbl 16385 :resorigcol 2 :resjunk false} {TARGETENTRY :expr {FUNCEXPR :args ({VAR \
        :varno 1})} :resno 2 :resname \\:resno :ressortgroupref 0 :resorigtbl 0 :resorigcol 0 :resjunk false} \
        {TARGETENTRY :expr {VAR :varno 1} :resno 3 :resname j :resorigtbl 16385 :resorigcol 3 :resjunk true}) \
        :returningList <> :groupClause <>})";

    #[test]
    fn only_the_outer_list_and_only_marked_columns_count() {
        assert_eq!(origins(TREE), [(1, (16385, 2))]);
    }

    #[test]
    fn cut_anywhere_it_neither_panics_nor_invents() {
        for end in (0..TREE.len()).filter(|end| TREE.is_char_boundary(*end)) {
            assert!(origins(&TREE[..end]).iter().all(|origin| *origin == (1, (16385, 2))));
        }
        assert!(origins("\\é}{)(:").is_empty());
    }
}
