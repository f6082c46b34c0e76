//! Hash functions and hash tables of IPVS's schedulers, written from their descriptions.
//!
//! **Invariant:** nothing here calls the code under test.
//!
//! Used by the models of the schedulers.

/// Buckets of dh and sh.
pub const BUCKETS: u32 = 256;
/// Places in mh's table: the prime of IPVS's default table index 12.
pub const PLACES: u32 = 4_093;
/// mh's greatest weight is shifted down to at most this many bits: half the table index.
const TURN_BITS: u32 = 6;
const FIRST_KEY: [u64; 2] = [2_654_435_761; 2];
const SECOND_KEY: [u64; 2] = [2_654_446_892; 2];

/// The kernel's `hash_32` down to 8 bits: the top bits of a product with the golden ratio.
pub const fn hash_to_bucket(value: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - 8)
}

/// mh's hash of an address and a port: SipHash-1-3 of their sum, its low half.
pub fn first_hash(sum: u32) -> u32 {
    sip_hash_1_3(FIRST_KEY, &sum.to_le_bytes()) as u32
}

fn second_hash(sum: u32) -> u32 {
    sip_hash_1_3(SECOND_KEY, &sum.to_le_bytes()) as u32
}

/// SipHash with one compression and three finalisation rounds (Aumasson, Bernstein 2012).
fn sip_hash_1_3(key: [u64; 2], message: &[u8]) -> u64 {
    let mut state = [
        key[0] ^ u64::from_be_bytes(*b"somepseu"),
        key[1] ^ u64::from_be_bytes(*b"dorandom"),
        key[0] ^ u64::from_be_bytes(*b"lygenera"),
        key[1] ^ u64::from_be_bytes(*b"tedbytes"),
    ];
    let mut padded = message.to_vec();
    padded.resize(message.len() / 8 * 8 + 7, 0);
    padded.push(message.len() as u8);
    for word in padded.chunks(8) {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        state[3] ^= word;
        sip_round(&mut state);
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut state);
    }
    state.iter().fold(0, |hash, word| hash ^ word)
}

fn sip_round(v: &mut [u64; 4]) {
    let mut mix = |a: usize, b: usize, by: u32| {
        v[a] = v[a].wrapping_add(v[b]);
        v[b] = v[b].rotate_left(by) ^ v[a];
    };
    mix(0, 1, 13);
    mix(2, 3, 16);
    v[0] = v[0].rotate_left(32);
    let mut mix = |a: usize, b: usize, by: u32| {
        v[a] = v[a].wrapping_add(v[b]);
        v[b] = v[b].rotate_left(by) ^ v[a];
    };
    mix(2, 1, 17);
    mix(0, 3, 21);
    v[2] = v[2].rotate_left(32);
}

/// dh's buckets: the list over and over.
pub fn dh_buckets(list: usize) -> Vec<usize> {
    (0..list).cycle().take(BUCKETS as usize).collect()
}

/// sh's buckets: each of the list as often as its weight says, at least once, over and over.
pub fn sh_buckets(weights: &[i64]) -> Vec<usize> {
    let mut buckets = Vec::new();
    while buckets.len() < BUCKETS as usize && !weights.is_empty() {
        for (at, weight) in weights.iter().enumerate() {
            let wanted = usize::try_from((*weight).clamp(1, i64::from(BUCKETS))).unwrap();
            buckets.extend(std::iter::repeat_n(at, wanted));
        }
    }
    buckets.truncate(BUCKETS as usize);
    buckets
}

/// One destination of mh's table.
pub struct MaglevShare {
    /// Address and port, added.
    pub sum: u32,
    /// Last weight above 0; 0 if there was none.
    pub last_weight: i64,
}

/// mh's table, of positions in the list; empty if nobody has a share. Each in turn takes the next free places of its own
/// permutation of the table, as many as its weight says.
pub fn maglev_table(list: &[MaglevShare]) -> Vec<usize> {
    let divisor =
        list.iter().fold(0, |divisor, share| greatest_divisor(share.last_weight, divisor));
    if divisor == 0 {
        return Vec::new();
    }
    let greatest = list.iter().map(|share| share.last_weight / divisor).max().unwrap_or(0);
    let bits = i64::BITS - greatest.leading_zeros();
    let turns = |share: &MaglevShare| match (share.last_weight / divisor)
        >> bits.saturating_sub(TURN_BITS)
    {
        0 => i64::from(share.last_weight != 0),
        turns => turns,
    };
    let mut permutations: Vec<_> = list
        .iter()
        .map(|share| {
            let first = u64::from(first_hash(share.sum) % PLACES);
            let skip = u64::from(second_hash(share.sum) % (PLACES - 1) + 1);
            (0..u64::from(PLACES)).map(move |n| ((first + n * skip) % u64::from(PLACES)) as usize)
        })
        .collect();
    let mut table = vec![None; PLACES as usize];
    let mut free = table.len();
    while free > 0 {
        for (at, share) in list.iter().enumerate() {
            for _ in 0..turns(share).min(i64::try_from(free).unwrap()) {
                let place = permutations[at].find(|place| table[*place].is_none()).unwrap();
                table[place] = Some(at);
                free -= 1;
            }
        }
    }
    table.into_iter().map(Option::unwrap).collect()
}

/// Greatest common divisor, by subtraction of what fits.
pub const fn greatest_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        let rest = a - a / b * b;
        a = b;
        b = rest;
    }
    a
}

/// Vectors of the reference implementation: the key is the bytes 0 to 15, the message the bytes 0, 1, 2 and so on.
#[test]
fn sip_hash_1_3_has_its_published_values() {
    const VECTORS: [(usize, [u8; 8]); 6] = [
        (0, [0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab]),
        (1, [0x93, 0xca, 0x57, 0x7d, 0xf3, 0x9b, 0xf4, 0xc9]),
        (4, [0x28, 0x83, 0xd3, 0x88, 0x60, 0x57, 0x75, 0xcf]),
        (7, [0x40, 0x11, 0xb1, 0x9b, 0x98, 0x7d, 0x92, 0xd3]),
        (8, [0x8e, 0x9a, 0x29, 0x8d, 0x11, 0x95, 0x90, 0x36]),
        (15, [0x56, 0x99, 0x51, 0x2a, 0x6d, 0xd8, 0x20, 0xd3]),
    ];
    let bytes: Vec<u8> = (0..16).collect();
    let key = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
    for (length, wanted) in VECTORS {
        assert_eq!(sip_hash_1_3(key, &bytes[..length]).to_le_bytes(), wanted, "{length} bytes");
    }
}
