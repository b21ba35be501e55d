//! Years of keys that follow one another by themselves, look by look: with calls that fail, an operator that is away,
//! clocks that are wrong, and with what is lost or thrown away on the way.

mod world;

use world::{HOUR, World};

const YEARS: i64 = 5;

/// A cache's first years.
fn live(seed: u64) -> World {
    let mut world = World::new(seed);
    let end = world.now + YEARS * 365 * 24 * HOUR;
    while world.now < end {
        world.look_with_luck();
        if world.well {
            match world.chance(100) {
                0 => world.lose_the_status(),
                1 => world.lose_the_chain(),
                2 => world.make_the_cache_anew(),
                3 => world.throw_old_secrets_away(),
                4 => world.settle(),
                _ => {}
            }
        }
        // Mostly some hours; now and then weeks without an operator, most of all after one failed.
        let away = if world.well { 60 } else { 5 };
        world.now += match world.chance(away) {
            0 => world.chance(40) * 24 * HOUR,
            _ if world.chance(3) == 0 => world.chance(60),
            _ => world.chance(30) * HOUR,
        };
    }
    world
}

#[test]
fn for_years_each_key_is_published_before_it_signs_and_the_former_signs_on_until_it_need_not() {
    for seed in 1..=4 {
        let world = live(seed);
        let (keys, most) = (world.made(), YEARS * 365 / 90 + 1);
        assert!(
            keys <= most && keys >= most / 2,
            "seed {seed}: {keys} keys in {YEARS} years, at most {most}"
        );
        assert!(world.dropped() >= keys - 4, "seed {seed}: of {keys} keys {} are gone", world.dropped());
    }
}
