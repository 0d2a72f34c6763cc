//! A search path, and the same with a lens's schemas in it.
//!
//! In: the path as PostgreSQL shows it, a lens. Out: schemas in order. Never: `$user` replaced; who that is, the caller
//! knows.

use std::sync::Arc;

use super::lens::PREFIX;
use super::rules::Lens;

/// Splits a search_path as `SplitIdentifierString` does (PostgreSQL, `varlena.c`).
pub fn split(value: &str) -> Vec<Arc<str>> {
    let mut path = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let mut name = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((i, c)) = chars.next() {
                if c == '"' {
                    if quoted[i + 1..].starts_with('"') {
                        chars.next();
                    } else {
                        end = i + 1;
                        break;
                    }
                }
                name.push(c);
            }
            rest = &quoted[end..];
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            name = rest[..end].trim_end().to_ascii_lowercase();
            rest = &rest[end..];
        }
        if !name.is_empty() {
            path.push(Arc::from(name));
        }
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    path
}

/// The path with the lens's schemas in it, each before the one it stands for.
pub fn through(items: &[Arc<str>], role: &str, lens: Option<&Lens>) -> Vec<Arc<str>> {
    let mut path: Vec<Arc<str>> = Vec::with_capacity(items.len() + 1);
    for item in items.iter().filter(|item| !item.starts_with(PREFIX)) {
        let schema = if **item == *"$user" { role } else { item };
        if let Some(views) = lens.and_then(|lens| lens.schemas.get(schema)).filter(|views| !path.contains(views)) {
            path.push(views.clone());
        }
        path.push(item.clone());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_split_as_the_server_splits_it() {
        let path = |s| split(s).iter().map(|p| p.to_string()).collect::<Vec<_>>();
        assert_eq!(path("\"$user\", public"), ["$user", "public"]);
        assert_eq!(path("\"Mixed\"\"Quote\",b , C"), ["Mixed\"Quote", "b", "c"]);
        assert_eq!(path(""), Vec::<String>::new());
        assert_eq!(path("\"\""), Vec::<String>::new());
        assert_eq!(path("\"unterminated"), ["unterminated"]);
        assert_eq!(path("A, \"B \"\"c\"\",d\" ,e"), ["a", "B \"c\",d", "e"]);
    }

    #[test]
    fn views_stand_before_the_schema_of_their_tables() {
        let schemas = [("public", "pgveil_lens_a_public"), ("anna", "pgveil_lens_a_anna")];
        let schemas = schemas.map(|(base, views)| (Arc::from(base), Arc::from(views)));
        let lens = Lens { schemas: schemas.into_iter().collect(), ..Lens::default() };
        let path = |shown: &str, lens| through(&split(shown), "anna", lens).join(" ");
        let both = "pgveil_lens_a_anna $user pgveil_lens_a_public public";
        assert_eq!(path("\"$user\", public", Some(&lens)), both);
        assert_eq!(path("pgveil_lens_a_anna, \"$user\", pgveil_lens_a_public, public", Some(&lens)), both);
        assert_eq!(path("other, public, public", Some(&lens)), "other pgveil_lens_a_public public public");
        assert_eq!(path("pgveil_lens_a_public, public", None), "public");
        assert_eq!(path("other", Some(&lens)), "other");
    }
}
