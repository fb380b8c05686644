//! Which roots a chain leads to, whatever its sender does to have it otherwise.

use super::*;

fn reached(chain: &[&[u8]], pinned: &[&Made]) -> Reached {
    let chain: Vec<_> = chain.iter().map(|der| der.to_vec()).collect();
    Pinned::read(pinned.iter().map(|made| made.der.as_slice())).unwrap().reached(&chain).unwrap()
}

/// Which of those that are pinned are reached.
fn which(chain: &[&[u8]], pinned: &[&Made]) -> Vec<usize> {
    let anchors = reached(chain, pinned).anchors;
    let own = |made: &Made| Pinned::read([made.der.as_slice()]).unwrap().anchors().next().unwrap().clone();
    (0..pinned.len()).filter(|at| anchors.contains(&own(pinned[*at]))).collect()
}

/// The same key and name, certified by another.
fn cross_signed(made: &Made, name: &'static str, issuer: &Made) -> Made {
    let (der, params) = authority(name).certificate(&made.key, Some(issuer), &made.key);
    Made { der, params, key: KeyPair::from_pem(&made.key.serialize_pem()).unwrap() }
}

#[test]
fn what_is_left_out_of_a_chain_is_filled_by_what_is_pinned() {
    let maker = Maker::new();
    let (root, line) = (&maker.root, &maker.intermediate);
    let leaf = maker.leaf(idevid());
    assert_eq!(which(&[&leaf, &line.der], &[root, line]), [0, 1]);
    assert_eq!(which(&[&leaf], &[root, line]), [0, 1]);
    assert_eq!(which(&[&leaf], &[root]), [0; 0]);
    assert_eq!(which(&[&leaf, &line.der], &[root]), [0]);
}

#[test]
fn no_date_changes_where_a_chain_leads() {
    let root = authority("maker").made_by(None);
    let line = Plan { valid: (-5, -3), ..authority("line 0") }.made_by(Some(&root));
    let leaf = Plan { valid: (-4, 7900), ..idevid() }.made_by(Some(&line)).der;
    // A certificate that has nothing to do with it, and makes another birth of the whole.
    let late = Plan { valid: (-1, 9), ..authority("late") }.made_by(None);
    for chain in [&[leaf.as_slice()][..], &[&leaf, &late.der], &[&leaf, &late.der, &line.der]] {
        assert_eq!(which(chain, &[&root, &line]), [0, 1]);
    }
}

#[test]
fn every_way_counts_that_leads_over_a_cross_signed_certificate() {
    let (one, two) = (authority("one").made_by(None), authority("two").made_by(None));
    let line = authority("line").made_by(Some(&one));
    let crossed = cross_signed(&line, "line", &two);
    let leaf = idevid().made_by(Some(&line)).der;
    assert_eq!(which(&[&leaf, &line.der, &crossed.der], &[&one, &two]), [0, 1]);
    // Whichever was sent, where the other one is pinned.
    assert_eq!(which(&[&leaf, &line.der], &[&one, &two, &crossed]), [0, 1, 2]);
    assert_eq!(which(&[&leaf, &crossed.der], &[&one, &two, &crossed]), [1, 2]);
    // A root that another root has certified.
    let crossed = cross_signed(&one, "one", &two);
    assert_eq!(which(&[&leaf, &line.der, &crossed.der], &[&one, &two]), [0, 1]);
    // What nobody knows of nobody can count: docs/attestation.md says so.
    assert_eq!(which(&[&leaf, &line.der], &[&one, &two]), [0]);
}

#[test]
fn a_name_alone_leads_nowhere_and_costs_no_more_with_every_root() {
    let (maker, attacker) = (Maker::new(), Maker::new());
    let others: Vec<_> = (0..40).map(|n| authority(["a", "b", "c", "d"][n % 4]).made_by(None)).collect();
    let pinned: Vec<_> = others.iter().chain([&maker.root, &maker.intermediate]).collect();
    let leaf = attacker.leaf(idevid());
    let few = reached(&[&leaf, &attacker.intermediate.der], &[&maker.root, &maker.intermediate]);
    assert!(few.anchors.is_empty());
    assert_eq!(reached(&[&leaf, &attacker.intermediate.der], &pinned), few);
    let leaf = maker.leaf(idevid());
    for chain in [&[leaf.as_slice()][..], &[&leaf, &maker.intermediate.der]] {
        let few = reached(chain, &[&maker.root, &maker.intermediate]);
        // The leaf's, that of the CA between once in each certificate that there is of it, and the root's own.
        assert!(few.signatures <= 4, "{}", few.signatures);
        assert_eq!(reached(chain, &pinned), few);
    }
    // Four certificates that all claim to have signed each other.
    let knot: Vec<_> = (0..4).map(|_| Plan { name: "maker", ..idevid() }.made_by(Some(&attacker.root)).der).collect();
    let knot: Vec<_> = knot.iter().map(Vec::as_slice).collect();
    assert!(reached(&knot, &pinned).signatures <= 16);
}

#[test]
fn what_is_no_certificate_leads_nowhere_and_never_panics() {
    let maker = Maker::new();
    let pinned = Pinned::read([maker.root.der.as_slice(), maker.intermediate.der.as_slice()]).unwrap();
    let leaf = maker.leaf(idevid());
    for length in 0..leaf.len() {
        assert_eq!(pinned.reached(&[leaf[..length].to_vec()]), Err(ChainError::Malformed), "{length}");
        assert!(Pinned::read([&leaf[..length]]).is_err(), "{length}");
    }
    assert_eq!(pinned.reached(&[]), Err(ChainError::Size));
    for at in 0..leaf.len() {
        let mut changed = leaf.clone();
        changed[at] ^= 0x20;
        let found = pinned.reached(&[changed]).map(|reached| reached.anchors.len());
        assert!(matches!(found, Err(_) | Ok(0)), "{at}: {found:?}");
    }
}
