//! What a certificate says that a login needs: the hash that a proof is bound to (`tls-server-end-point`, RFC 5929 §4.1),
//! and the common name of its subject (RFC 5280 §4.1.2.6).
//!
//! In: a certificate in DER. Out: an [`EndPoint`], a name; `None` where there is none. Never: trust in the certificate;
//! who verifies it is TLS.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// The binding data of one TLS connection. Public: it is made of the certificate that the handshake shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndPoint {
    bytes: [u8; 64],
    length: usize,
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// 1.2.840.113549.1.1: the RSA signatures; one more byte says which.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4: the ECDSA signatures.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

impl EndPoint {
    /// Of that certificate.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let algorithm = signature_algorithm(certificate)?;
        let hash = match (algorithm.strip_prefix(RSA), algorithm.strip_prefix(ECDSA)) {
            // RFC 5929: MD5 (4) and SHA-1 (5, and 1 for ECDSA) are replaced by SHA-256.
            (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Sha256::digest(certificate).to_vec(),
            (Some([12]), _) | (_, Some([3, 3])) => Sha384::digest(certificate).to_vec(),
            (Some([13]), _) | (_, Some([3, 4])) => Sha512::digest(certificate).to_vec(),
            (Some([14]), _) | (_, Some([3, 1])) => Sha224::digest(certificate).to_vec(),
            _ => return None,
        };
        let mut bytes = [0; 64];
        bytes[..hash.len()].copy_from_slice(&hash);
        Some(Self { bytes, length: hash.len() })
    }

    /// The hash.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
/// `[0]`, the version of everything but X.509 version 1.
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString, IA5String; the other forms are of the last century.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The subject's common name: `None` if it has none, more than one, or one that is empty or holds a NUL (a name that ends
/// early for whoever reads it as C does, CVE-2009-4034).
pub fn common_name(certificate: &[u8]) -> Option<&str> {
    let (parts, _) = element(certificate, SEQUENCE).filter(|(_, after)| after.is_empty())?;
    let (signed, _) = element(parts, SEQUENCE)?;
    let signed = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_, rest) = element(signed, INTEGER)?;
    // Signature algorithm, issuer, validity.
    let rest = (0..3).try_fold(rest, |rest, _| element(rest, SEQUENCE).map(|(_, rest)| rest))?;
    let (mut subject, _) = element(rest, SEQUENCE)?;
    let mut found = None;
    while !subject.is_empty() {
        let (mut attributes, after) = element(subject, SET)?;
        subject = after;
        while !attributes.is_empty() {
            let (attribute, after) = element(attributes, SEQUENCE)?;
            attributes = after;
            let (kind, value) = element(attribute, OBJECT_IDENTIFIER)?;
            if kind == COMMON_NAME {
                let (text, _) = STRINGS.iter().find_map(|tag| element(value, *tag))?;
                let name = std::str::from_utf8(text).ok().filter(|name| !name.is_empty() && !name.contains('\0'))?;
                if found.replace(name).is_some() {
                    return None;
                }
            }
        }
    }
    found
}

/// The object identifier in `signatureAlgorithm` (RFC 5280 §4.1.1.2).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (parts, after) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(parts, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    after.is_empty().then_some(identifier)
}

/// One DER element of that tag at the front: its content, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (first == tag).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let certificate = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(EndPoint::of(&certificate).unwrap().bytes(), Sha256::digest(&certificate).as_slice());
        let certificate = self::certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(EndPoint::of(&certificate).unwrap().bytes(), Sha384::digest(&certificate).as_slice());
        assert_eq!(EndPoint::of(&self::certificate(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn old_hashes_are_replaced() {
        let with = |oid: &[u8]| {
            let mut inner = vec![SEQUENCE, 0, SEQUENCE, u8::try_from(oid.len() + 2).unwrap(), OBJECT_IDENTIFIER];
            inner.push(u8::try_from(oid.len()).unwrap());
            inner.extend_from_slice(oid);
            let mut out = vec![SEQUENCE, u8::try_from(inner.len()).unwrap()];
            out.extend_from_slice(&inner);
            out
        };
        let lengths = [(4, Some(32)), (5, Some(32)), (11, Some(32)), (13, Some(64)), (14, Some(28)), (10, None)];
        for (last, length) in lengths {
            let certificate = with(&[RSA, &[last]].concat());
            assert_eq!(EndPoint::of(&certificate).map(|e| e.bytes().len()), length, "{last}");
        }
        assert_eq!(EndPoint::of(&with(&[ECDSA, &[1]].concat())).map(|e| e.bytes().len()), Some(32));
    }

    #[test]
    fn the_common_name_is_one_or_none() {
        let named = |names: &[&str]| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "Clinic");
            for (at, name) in names.iter().enumerate() {
                // rcgen keeps one of each type; the second is put in under the same identifier.
                let kind =
                    if at == 0 { rcgen::DnType::CommonName } else { rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]) };
                params.distinguished_name.push(kind, *name);
            }
            let key = KeyPair::generate().unwrap();
            let der = params.self_signed(&key).unwrap().der().to_vec();
            common_name(&der).map(str::to_owned)
        };
        assert_eq!(named(&["ann"]).as_deref(), Some("ann"));
        assert_eq!(named(&["Ünï"]).as_deref(), Some("Ünï"));
        assert_eq!(named(&[]), None);
        assert_eq!(named(&[""]), None);
        assert_eq!(named(&["ann\0x"]), None);
        assert_eq!(named(&["ann", "app"]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), cut in 0usize..300) {
            let _ = (EndPoint::of(&bytes), common_name(&bytes));
            let good = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
            let torn = &good[..cut.min(good.len() - 1)];
            proptest::prop_assert_eq!((EndPoint::of(torn), common_name(torn)), (None, None));
        }
    }
}
