//! Closed segments, compressed: one zstd frame and a trailer, read as the lines that they were.
//!
//! In: a plain segment, or a compressed one as a disk or a hand left it. Out: the other form. Never: a plain segment removed
//! whose compressed form was not read back and compared; more memory for reading than a window of 8 MiB.
//!
//! ```text
//! zstd frame of the segment's bytes, with its content checksum
//! 5E 2A 4D 18  28 00 00 00     a skippable frame of 40 bytes, which `zstd -d` passes over:
//! u64 length of the segment, little-endian  ‖  SHA-256 of all bytes of this file before this frame
//! ```
//!
//! What the segment said is proven by its records; the trailer finds a changed bit that changes none of them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::disk;
use crate::error::{Error, Result};

/// Behind the name of a plain segment.
pub(super) const SUFFIX: &str = ".zst";
/// Behind that, while it is not yet proven.
pub(super) const UNPROVEN: &str = ".new";
const TRAILER: usize = 48;
const TRAILER_HEAD: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 40, 0, 0, 0];
const LEVEL: i32 = 6;
/// Log2 of how far back a compressed segment refers …
const WINDOW_LOG: u32 = 21;
/// … and of how far one that is read may.
const WINDOW_LOG_MAX: u32 = 23;
/// Asked for at once: less than any segment has, for a frame that is decompressed in one go gives nothing when it is damaged
/// at its end.
const PIECE: usize = 1_024;
/// More than any segment can hold.
const TEXT_MAX: u64 = 64 << 30;

/// Whether that is the name of a compressed segment.
pub(super) fn is_packed(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes())
}

/// The name that a plain segment has when it is compressed.
pub(super) fn packed(plain: &Path) -> PathBuf {
    let mut name = plain.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// How long a segment is, as far as it tells; not to be believed.
pub(super) fn text_len(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let about = file.metadata()?.len();
    if !is_packed(path) {
        return Ok(about);
    }
    Ok(Trailer::read(&mut file)?.map_or(about, |trailer| trailer.text.min(TEXT_MAX)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Trailer {
    text: u64,
    sum: [u8; 32],
}

impl Trailer {
    fn encode(self) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..8].copy_from_slice(&TRAILER_HEAD);
        bytes[8..16].copy_from_slice(&self.text.to_le_bytes());
        bytes[16..].copy_from_slice(&self.sum);
        bytes
    }

    fn decode(bytes: &[u8; TRAILER]) -> Option<Self> {
        let (head, rest) = bytes.split_at(8);
        let (text, sum) = rest.split_at(8);
        let trailer = Self { text: u64::from_le_bytes(text.try_into().ok()?), sum: sum.try_into().ok()? };
        (head == TRAILER_HEAD).then_some(trailer)
    }

    /// Of a file that has one; the file is at its beginning afterwards.
    fn read(file: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let len = file.seek(SeekFrom::End(0))?;
        let mut bytes = [0; TRAILER];
        let found = match len.checked_sub(TRAILER as u64) {
            Some(at) => {
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut bytes)?;
                Self::decode(&bytes)
            }
            None => None,
        };
        file.seek(SeekFrom::Start(0))?;
        Ok(found)
    }
}

/// Bytes of a file, and their hash.
struct Summed<R> {
    inner: io::Take<R>,
    sum: Sha256,
    failed: bool,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into);
        match &read {
            Ok(read) => self.sum.update(&into[..*read]),
            Err(error) => self.failed |= error.kind() != ErrorKind::Interrupted,
        }
        read
    }
}

/// The text of a compressed segment. Ends with [`ErrorKind::InvalidData`] where it is not what was written.
pub(super) struct Unpacked<R: Read> {
    decoder: Decoder<'static, BufReader<Summed<R>>>,
    trailer: Option<Trailer>,
    given: u64,
    proven: bool,
}

impl Unpacked<File> {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }
}

impl<R: Read + Seek> Unpacked<R> {
    /// Nothing is decompressed yet.
    pub(super) fn new(mut file: R) -> io::Result<Self> {
        let trailer = Trailer::read(&mut file)?;
        let len = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        let body = if trailer.is_some() { len - TRAILER as u64 } else { len };
        let summed = Summed { inner: file.take(body), sum: Sha256::new(), failed: false };
        let mut decoder = Decoder::with_buffer(BufReader::with_capacity(64 * 1024, summed))?.single_frame();
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self { decoder, trailer, given: 0, proven: false })
    }
}

impl<R: Read> Unpacked<R> {
    /// The frame has ended: nothing follows it, and every byte is as it was written.
    fn prove(&mut self) -> io::Result<()> {
        let reader = self.decoder.get_mut();
        let more = !reader.fill_buf()?.is_empty();
        let sum: [u8; 32] = reader.get_ref().sum.clone().finalize().into();
        if more || self.trailer != Some(Trailer { text: self.given, sum }) {
            return Err(damaged());
        }
        self.proven = true;
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the compressed segment is not what was written")
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.proven {
            return Ok(0);
        }
        let piece = into.len().min(PIECE);
        let read = match self.decoder.read(&mut into[..piece]) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted || self.decoder.get_ref().get_ref().failed => {
                return Err(error);
            }
            Err(_) => return Err(damaged()),
        };
        self.given += read as u64;
        if self.given > TEXT_MAX {
            return Err(damaged());
        }
        if read == 0 {
            self.prove()?;
        }
        Ok(read)
    }
}

/// A writer's bytes, and their hash.
struct Summing<W> {
    inner: W,
    sum: Sha256,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Compresses `text`, of which there are `len` bytes, into `out`.
pub(super) fn pack_into<W: Write>(text: &mut impl Read, len: u64, out: W) -> io::Result<W> {
    let mut encoder = Encoder::new(Summing { inner: out, sum: Sha256::new() }, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.set_pledged_src_size(Some(len))?;
    io::copy(text, &mut encoder)?;
    let Summing { inner: mut out, sum } = encoder.finish()?;
    out.write_all(&Trailer { text: len, sum: sum.finalize().into() }.encode())?;
    Ok(out)
}

/// Replaces a plain segment by a compressed one, and returns how long it is. After a crash at any point one of the two is
/// whole, and calling it again ends what was begun.
pub(super) fn pack(dir: &Path, plain: &Path) -> io::Result<u64> {
    let packed = packed(plain);
    if !same_text(plain, &packed)? {
        let mut unproven = packed.clone().into_os_string();
        unproven.push(UNPROVEN);
        let unproven = PathBuf::from(unproven);
        let made = make(plain, &unproven).and_then(|()| same_text(plain, &unproven));
        if !matches!(made, Ok(true)) {
            // What is not proven takes only room.
            let _ = fs::remove_file(&unproven);
            made?;
            return Err(damaged());
        }
        fs::rename(&unproven, &packed)?;
        disk::sync_dir(dir)?;
    }
    fs::remove_file(plain)?;
    disk::sync_dir(dir)?;
    Ok(fs::metadata(&packed)?.len())
}

/// What compressing a segment did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// The segment's file, as it was called.
    pub file: String,
    /// Bytes it had.
    pub from: u64,
    /// Bytes it has.
    pub to: u64,
}

/// Compresses the oldest plain segment that is not the newest and was last written to before then; `None` if there is none.
/// Beside the log's writer, or without it.
///
/// # Errors
/// A file cannot be read or written; the log is as it was.
pub fn compress_next(dir: &Path, before: SystemTime) -> Result<Option<Compressed>> {
    let fail = |path: &Path| {
        let what = format!("compressing {}", path.display());
        move |e| Error::io(what, e)
    };
    let mut segments = disk::segments(dir).map_err(fail(dir))?;
    segments.pop();
    for (_, path) in segments.into_iter().filter(|(_, path)| !is_packed(path)) {
        let about = fs::metadata(&path).map_err(fail(&path))?;
        if about.modified().map_err(fail(&path))? < before {
            let to = pack(dir, &path).map_err(fail(&path))?;
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(Some(Compressed { file, from: about.len(), to }));
        }
    }
    Ok(None)
}

fn make(plain: &Path, unproven: &Path) -> io::Result<()> {
    let mut text = File::open(plain)?;
    let len = text.metadata()?.len();
    let file = disk::private().create(true).truncate(true).write(true).open(unproven)?;
    pack_into(&mut text, len, file)?.sync_all()
}

/// Whether a compressed file is there, whole, and holds exactly what the plain one does.
fn same_text(plain: &Path, packed: &Path) -> io::Result<bool> {
    let mut unpacked = match Unpacked::open(packed) {
        Ok(unpacked) => unpacked,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut text = BufReader::with_capacity(64 * 1024, File::open(plain)?);
    let mut theirs = vec![0; 64 * 1024];
    loop {
        let read = match unpacked.read(&mut theirs) {
            Ok(0) => return Ok(text.fill_buf()?.is_empty()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut at = 0;
        while at < read {
            let ours = text.fill_buf()?;
            let here = ours.len().min(read - at);
            if here == 0 || ours[..here] != theirs[at..at + here] {
                return Ok(false);
            }
            text.consume(here);
            at += here;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn text(lines: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for number in 0..lines {
            let sum = hex::encode(Sha256::digest(number.to_le_bytes()));
            writeln!(text, "{{\"v\":1,\"seq\":{number},\"prev\":\"{sum}\"}}").unwrap();
        }
        text
    }

    fn compressed(text: &[u8]) -> Vec<u8> {
        pack_into(&mut &*text, text.len() as u64, Vec::new()).unwrap()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Unpacked::new(Cursor::new(bytes))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn it_reads_back_and_any_other_bit_or_length_does_not() {
        let text = text(300);
        let good = compressed(&text);
        assert!(good.len() < text.len() * 2 / 3);
        assert_eq!(unpacked(&good).unwrap(), text);
        assert_eq!(unpacked(&compressed(b"")).unwrap(), b"");
        for at in 0..good.len() {
            let mut edited = good.clone();
            edited[at] ^= 1 << (at % 8);
            assert_eq!(unpacked(&edited).unwrap_err().kind(), ErrorKind::InvalidData, "byte {at}");
        }
        for cut in 0..good.len() {
            assert_eq!(unpacked(&good[..cut]).unwrap_err().kind(), ErrorKind::InvalidData, "cut at {cut}");
        }
        for longer in [[&good[..], b"x"].concat(), [&good[..], &good[..]].concat(), [b"x", &good[..]].concat()] {
            assert_eq!(unpacked(&longer).unwrap_err().kind(), ErrorKind::InvalidData);
        }
    }

    #[test]
    fn any_zstd_reads_it() {
        let text = text(300);
        assert_eq!(zstd::decode_all(&compressed(&text)[..]).unwrap(), text);
    }

    #[test]
    fn a_window_that_wants_much_memory_is_refused() {
        let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![0; 32 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 10_000);
        let mut first = [0; 16];
        let refused = Unpacked::new(Cursor::new(bomb)).unwrap().read(&mut first).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn a_crash_at_any_point_leaves_one_whole_and_the_next_call_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("access-00000001.jsonl");
        let (text, good) = (text(50), compressed(&text(50)));
        let unproven = dir.path().join("access-00000001.jsonl.zst.new");
        for (what, before, half) in [
            ("nothing", None, None),
            ("half of it written", None, Some(&good[..9])),
            ("renamed, the plain one still there", Some(&good[..]), None),
            ("another one there", Some(&compressed(b"other")[..]), None),
            ("a damaged one there", Some(&good[1..]), None),
        ] {
            fs::write(&plain, &text).unwrap();
            let _ = fs::remove_file(packed(&plain));
            for (path, bytes) in [(packed(&plain), before), (unproven.clone(), half)] {
                bytes.into_iter().for_each(|bytes| fs::write(&path, bytes).unwrap());
            }
            assert_eq!(pack(dir.path(), &plain).unwrap(), good.len() as u64, "{what}");
            assert_eq!(fs::read(packed(&plain)).unwrap(), good, "{what}");
            assert!(!plain.exists() && !unproven.exists(), "{what}");
            assert_eq!(text_len(&packed(&plain)).unwrap(), text.len() as u64);
        }
    }
}
