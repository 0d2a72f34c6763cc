//! The messages the session reads, decoded from exactly one frame's body: borrowed, leftovers refused.
//!
//! In: a body. Out: its parts as slices of it. Never: a copy, a lossy decode, a panic.

/// A body that does not have the shape its tag promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

type Decoded<T> = Result<T, Malformed>;

/// Reads fields off the front of a body.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the body's first byte.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// One byte.
    pub fn byte(&mut self) -> Decoded<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed("message ends early"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// `n` bytes.
    pub fn take(&mut self, n: usize) -> Decoded<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Malformed("message ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("message ends early"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// Int16.
    pub fn i16(&mut self) -> Decoded<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Int16 read as a count: 0 to 65,535.
    pub fn count(&mut self) -> Decoded<usize> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    /// Int32.
    pub fn i32(&mut self) -> Decoded<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Int32 without sign.
    pub fn u32(&mut self) -> Decoded<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A NUL-terminated string, without the NUL.
    pub fn cstr(&mut self) -> Decoded<&'a [u8]> {
        let end = memchr::memchr(0, self.rest).ok_or(Malformed("string without its terminating NUL"))?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// A value: Int32 length (−1 = NULL) and that many bytes.
    pub fn value(&mut self) -> Decoded<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            n => {
                let n = usize::try_from(n).map_err(|_| Malformed("negative length"))?;
                self.take(n).map(Some)
            }
        }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses leftovers.
    pub fn end(&self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes left over after the message")) }
    }
}

/// `Q`.
pub fn query(body: &[u8]) -> Decoded<&[u8]> {
    let mut r = Reader::new(body);
    let sql = r.cstr()?;
    r.end()?;
    Ok(sql)
}

/// `P`.
#[derive(Debug)]
pub struct Parse<'a> {
    /// Statement name; empty for the unnamed one.
    pub name: &'a [u8],
    /// The text.
    pub sql: &'a [u8],
    /// Declared parameter type OIDs, 0 = not declared.
    pub oids: Vec<u32>,
}

/// Decodes `P`.
pub fn parse(body: &[u8]) -> Decoded<Parse<'_>> {
    let mut r = Reader::new(body);
    let name = r.cstr()?;
    let sql = r.cstr()?;
    let n = r.count()?;
    let mut oids = Vec::with_capacity(n.min(r.rest().len() / 4));
    for _ in 0..n {
        oids.push(r.u32()?);
    }
    r.end()?;
    Ok(Parse { name, sql, oids })
}

/// `B`; counts and values stay bytes until somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// Portal name.
    pub portal: &'a [u8],
    /// Statement name.
    pub statement: &'a [u8],
    /// Parameter format codes, 2 bytes each.
    pub formats: &'a [u8],
    /// How many values.
    pub values: usize,
    /// The values' bytes: `values` × (Int32 length, bytes).
    pub value_bytes: &'a [u8],
    /// Result format codes, 2 bytes each.
    pub result_formats: &'a [u8],
}

/// Decodes `B`, walking every value once to find where the result formats begin.
pub fn bind(body: &[u8]) -> Decoded<Bind<'_>> {
    let mut r = Reader::new(body);
    let portal = r.cstr()?;
    let statement = r.cstr()?;
    let n = r.count()?;
    let formats = r.take(n * 2)?;
    let values = r.count()?;
    let before = r.rest();
    for _ in 0..values {
        r.value()?;
    }
    let value_bytes = &before[..before.len() - r.rest().len()];
    let n = r.count()?;
    let result_formats = r.take(n * 2)?;
    r.end()?;
    Ok(Bind { portal, statement, formats, values, value_bytes, result_formats })
}

/// `F`; the values stay bytes.
#[derive(Clone, Copy, Debug)]
pub struct FunctionCall<'a> {
    /// `pg_proc.oid`.
    pub function: u32,
    /// Argument format codes, 2 bytes each.
    pub formats: &'a [u8],
    /// How many arguments.
    pub values: usize,
    /// `values` × (Int32 length, bytes).
    pub value_bytes: &'a [u8],
}

/// Decodes `F`.
pub fn function_call(body: &[u8]) -> Decoded<FunctionCall<'_>> {
    let mut r = Reader::new(body);
    let function = r.u32()?;
    let n = r.count()?;
    let formats = r.take(n * 2)?;
    let values = r.count()?;
    let before = r.rest();
    for _ in 0..values {
        r.value()?;
    }
    let value_bytes = &before[..before.len() - r.rest().len()];
    r.count()?;
    r.end()?;
    Ok(FunctionCall { function, formats, values, value_bytes })
}

/// The format code that applies to index `i` of a format list (none = text, one = for all, else one each).
/// `None`: the list is too short, or the code is neither 0 nor 1; PostgreSQL will say so itself.
pub fn format_at(formats: &[u8], i: usize) -> Option<crate::wire::types::Format> {
    use crate::wire::types::Format;
    let code = match formats.len() / 2 {
        0 => 0,
        1 => u16::from_be_bytes([formats[0], formats[1]]),
        _ => {
            let pair = formats.get(i * 2..i * 2 + 2)?;
            u16::from_be_bytes([pair[0], pair[1]])
        }
    };
    match code {
        0 => Some(Format::Text),
        1 => Some(Format::Binary),
        _ => None,
    }
}

/// `D` and `C` from the client: a kind byte (`S` or `P`) and a name.
pub fn target(body: &[u8]) -> Decoded<(u8, &[u8])> {
    let mut r = Reader::new(body);
    let kind = r.byte()?;
    let name = r.cstr()?;
    r.end()?;
    Ok((kind, name))
}

/// `E` from the client: portal name and row limit.
pub fn execute(body: &[u8]) -> Decoded<(&[u8], i32)> {
    let mut r = Reader::new(body);
    let portal = r.cstr()?;
    let limit = r.i32()?;
    r.end()?;
    Ok((portal, limit))
}

/// One field of `T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDescription<'a> {
    /// Column label.
    pub name: &'a [u8],
    /// Origin relation oid, 0 if none.
    pub table: u32,
    /// Origin attnum, 0 if none.
    pub attnum: i16,
    /// Type oid: the base type for a domain.
    pub type_oid: u32,
    /// `typlen`.
    pub size: i16,
    /// Type modifier.
    pub typmod: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// Decodes `T`.
pub fn row_description(body: &[u8]) -> Decoded<Vec<FieldDescription<'_>>> {
    let mut r = Reader::new(body);
    let n = r.count()?;
    let mut fields = Vec::with_capacity(n.min(r.rest().len() / 19));
    for _ in 0..n {
        fields.push(FieldDescription {
            name: r.cstr()?,
            table: r.u32()?,
            attnum: r.i16()?,
            type_oid: r.u32()?,
            size: r.i16()?,
            typmod: r.i32()?,
            format: r.i16()?,
        });
    }
    r.end()?;
    Ok(fields)
}

/// Decodes `t`.
pub fn parameter_description(body: &[u8]) -> Decoded<Vec<u32>> {
    let mut r = Reader::new(body);
    let n = r.count()?;
    let mut oids = Vec::with_capacity(n.min(r.rest().len() / 4));
    for _ in 0..n {
        oids.push(r.u32()?);
    }
    r.end()?;
    Ok(oids)
}

/// Decodes `S` from the server.
pub fn parameter_status(body: &[u8]) -> Decoded<(&[u8], &[u8])> {
    let mut r = Reader::new(body);
    let name = r.cstr()?;
    let value = r.cstr()?;
    r.end()?;
    Ok((name, value))
}

/// The fields of `E` and `N` from the server: (code, text).
pub fn notice_fields(body: &[u8]) -> Decoded<Vec<(u8, &[u8])>> {
    let mut r = Reader::new(body);
    let mut fields = Vec::new();
    loop {
        match r.byte()? {
            0 => break,
            code => fields.push((code, r.cstr()?)),
        }
    }
    r.end()?;
    Ok(fields)
}

/// The row count at the end of a command tag (`INSERT 0 5`, `SELECT 3`, `COPY 7`); 0 where it has none.
pub fn tag_rows(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let digits = tag.rsplit(|b| *b == b' ').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_is_cut_into_its_parts() {
        let mut body = Vec::new();
        body.extend_from_slice(b"p\0s\0");
        body.extend_from_slice(&[0, 1, 0, 1]);
        body.extend_from_slice(&[0, 2, 0, 0, 0, 3]);
        body.extend_from_slice(b"abc");
        body.extend_from_slice(&(-1i32).to_be_bytes());
        body.extend_from_slice(&[0, 0]);
        let b = bind(&body).unwrap();
        assert_eq!((b.portal, b.statement, b.values), (&b"p"[..], &b"s"[..], 2));
        assert_eq!(format_at(b.formats, 1), Some(crate::wire::types::Format::Binary));
        assert_eq!(b.value_bytes.len(), 11);
        for cut in 0..body.len() {
            assert!(bind(&body[..cut]).is_err(), "cut at {cut}");
        }
        body.push(0);
        assert!(bind(&body).is_err(), "leftovers");
    }

    #[test]
    fn counts_that_lie_do_not_allocate() {
        assert!(row_description(&[0xff, 0xff]).is_err());
        assert!(parameter_description(&[0xff, 0xff, 0]).is_err());
        assert!(parse(b"\0\0\xff\xff").is_err());
    }

    #[test]
    fn tags_carry_row_counts() {
        assert_eq!(tag_rows(b"INSERT 0 5\0"), 5);
        assert_eq!(tag_rows(b"SELECT 12\0"), 12);
        assert_eq!(tag_rows(b"BEGIN\0"), 0);
    }
}
