//! Nix base-32: the digits are those of base 32 without `e o t u`, the bits are read from the end.
//!
//! Source: Nix, `src/libutil/hash.cc` (`printHash32`, `parseHash32`).

/// The 32 digits, in order of value.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Whether `text` has exactly `length` digits of [`ALPHABET`].
pub fn is_base32(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| digit(byte).is_some())
}

/// Writes `bytes` as `ceil(8 n / 5)` digits.
pub fn encode(bytes: &[u8]) -> String {
    let length = (bytes.len() * 8).div_ceil(5);
    (0..length)
        .rev()
        .map(|position| {
            let bit = position * 5;
            let (index, shift) = (bit / 8, bit % 8);
            let low = u16::from(bytes[index]);
            let high = bytes.get(index + 1).map_or(0, |byte| u16::from(*byte));
            let value = ((high << 8 | low) >> shift) & 0x1f;
            char::from(ALPHABET[usize::from(value)])
        })
        .collect()
}

/// Reads exactly `N` bytes; `None` for another length, another digit, or bits beyond `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (position, byte) in text.bytes().rev().enumerate() {
        let value = u16::from(digit(byte)?);
        let bit = position * 5;
        let (index, shift) = (bit / 8, bit % 8);
        let shifted = value << shift;
        bytes[index] |= (shifted & 0xff) as u8;
        let carry = (shifted >> 8) as u8;
        match bytes.get_mut(index + 1) {
            Some(next) => *next |= carry,
            None if carry != 0 => return None,
            None => {}
        }
    }
    Some(bytes)
}

/// The value of each byte that is a digit, 255 of any other: a closure's paths are a million digits.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 32 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

fn digit(byte: u8) -> Option<u8> {
    Some(VALUES[usize::from(byte)]).filter(|value| *value < 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_nix() {
        // nix hash to-base32 --type sha256 of the empty string's hash
        let empty = hex::decode("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap();
        let text = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        assert_eq!(encode(&empty), text);
        assert_eq!(decode::<32>(text).unwrap().to_vec(), empty);
    }

    #[test]
    fn refuses_bits_beyond_the_last_byte() {
        assert_eq!(decode::<32>(&"z".repeat(52)), None);
        assert_eq!(decode::<32>(&"e".repeat(52)), None);
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverses(bytes: [u8; 32]) {
            prop_assert_eq!(decode::<32>(&encode(&bytes)), Some(bytes));
        }
    }
}
