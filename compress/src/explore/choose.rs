//! Finds the best combinations of one candidate per part, exactly.
//!
//! Partial combinations are extended part by part. One is dropped when it cannot be among the best: if the remaining
//! parts cost too much, if enough others are at least as good in every respect, or if its Lagrangian lower bound is
//! above known combinations (Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", chapter 11). These rules never
//! drop one of the best combinations, so the result is the same as with trying all.

use std::cmp::Ordering;

/// Steps of the search for good multipliers. Any multipliers give a correct bound.
const STEPS: usize = 400;

/// The length of a step as a share of the previous one.
const DECAY: f64 = 0.97;

/// Number of partial combinations that are followed to find good ones quickly.
const BEAM: usize = 300;

/// Sums in different order may differ by this share.
const ROUNDING: f64 = 1e-9;

/// The loss and the cost of a candidate or a combination.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Item {
    /// To be minimised; finite.
    pub loss: f64,
    /// Limited by the budget.
    pub parameters: u64,
    /// Limited by the budget.
    pub macs: u64,
    /// Limited by the budget; finite.
    pub ms: f64,
}

impl Item {
    fn plus(self, other: Item) -> Item {
        Item {
            loss: self.loss + other.loss,
            parameters: self.parameters.saturating_add(other.parameters),
            macs: self.macs.saturating_add(other.macs),
            ms: self.ms + other.ms,
        }
    }

    fn costs(self) -> [f64; 3] {
        [self.parameters as f64, self.macs as f64, self.ms]
    }

    /// Whether the loss and all costs are at most those of the other.
    fn is_as_good(&self, other: &Item) -> bool {
        self.loss <= other.loss
            && self.parameters <= other.parameters
            && self.macs <= other.macs
            && self.ms <= other.ms
    }

    fn order(&self, other: &Item) -> Ordering {
        let rest = || (self.parameters, self.macs).cmp(&(other.parameters, other.macs));
        self.loss.total_cmp(&other.loss).then_with(rest).then(self.ms.total_cmp(&other.ms))
    }
}

/// The limits of a combination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// All parameters together.
    pub parameters: u64,
    /// All multiply-accumulates together.
    pub macs: u64,
    /// All milliseconds together; infinite if there is no limit.
    pub ms: f64,
}

impl Budget {
    /// Whether `total` meets the budget.
    pub fn allows(&self, total: &Item) -> bool {
        total.parameters <= self.parameters && total.macs <= self.macs && total.ms <= self.ms
    }

    /// Costs as shares of the budget; 0 for costs without a limit.
    fn shares(&self, item: Item) -> [f64; 3] {
        let limits = [self.parameters as f64, self.macs as f64, self.ms];
        let costs = item.costs();
        std::array::from_fn(|i| if limits[i].is_finite() { costs[i] / limits[i].max(1e-9) } else { 0.0 })
    }
}

/// One candidate of each part.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// For each part, the number of the candidate.
    pub picks: Vec<usize>,
    /// The sum of all.
    pub total: Item,
}

/// The `count` combinations with the smallest loss within the budget, best first; fewer if there are fewer.
pub fn choose(parts: &[Vec<Item>], budget: &Budget, count: usize) -> Vec<Choice> {
    if count == 0 || parts.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    let mut bound = Bound::new(parts, budget);
    // Good combinations first: partial ones that are worse need not be followed.
    let known = extend(parts, budget, count, &bound, BEAM);
    bound.known = known.get(count - 1).map_or(f64::INFINITY, |choice| choice.total.loss);
    extend(parts, budget, count, &bound, usize::MAX)
}

/// The best combinations among those that begin with one of the `width` most promising partial ones of each length.
fn extend(parts: &[Vec<Item>], budget: &Budget, count: usize, bound: &Bound, width: usize) -> Vec<Choice> {
    let least = rests(parts);
    let mut partial = vec![Choice { picks: Vec::new(), total: Item::default() }];
    for (number, part) in parts.iter().enumerate() {
        let mut longer: Vec<Choice> = Vec::new();
        for choice in &partial {
            for (pick, item) in part.iter().enumerate() {
                let total = choice.total.plus(*item);
                let end = total.plus(least[number + 1]);
                let end = Item { ms: end.ms * (1.0 - ROUNDING), ..end };
                if budget.allows(&end) && bound.may_be_good(&total, number + 1) {
                    let picks = choice.picks.iter().copied().chain([pick]).collect();
                    longer.push(Choice { picks, total });
                }
            }
        }
        if longer.len() > width {
            let promise = |choice: &Choice| bound.of(&choice.total, number + 1);
            longer.sort_by(|a, b| promise(a).total_cmp(&promise(b)));
            longer.truncate(width);
        }
        longer.sort_by(|a, b| a.total.order(&b.total).then_with(|| a.picks.cmp(&b.picks)));
        partial = undominated(longer, count);
    }
    partial.retain(|choice| budget.allows(&choice.total));
    partial.truncate(count);
    partial
}

/// The combinations that are dominated by fewer than `count` others. They are sorted, so only earlier ones can
/// dominate.
fn undominated(sorted: Vec<Choice>, count: usize) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for choice in sorted {
        if kept.iter().filter(|other| other.total.is_as_good(&choice.total)).take(count).count() < count {
            kept.push(choice);
        }
    }
    kept
}

/// For each number of finished parts, the lower bounds of the costs of the remaining parts, each cost alone.
fn rests(parts: &[Vec<Item>]) -> Vec<Item> {
    let mut rests = vec![Item::default()];
    for part in parts.iter().rev() {
        let least = Item {
            loss: 0.0,
            parameters: part.iter().map(|item| item.parameters).min().unwrap_or(0),
            macs: part.iter().map(|item| item.macs).min().unwrap_or(0),
            ms: part.iter().map(|item| item.ms).fold(f64::INFINITY, f64::min),
        };
        rests.push(rests[rests.len() - 1].plus(least));
    }
    rests.reverse();
    rests
}

/// The lower bounds of the costs of all parts together, each cost alone.
pub fn least(parts: &[Vec<Item>]) -> Item {
    rests(parts)[0]
}

/// A Lagrangian lower bound of the loss. Every cost has a price, paid beyond the budget and refunded below it.
struct Bound {
    budget: Budget,
    prices: [f64; 3],
    /// For each number of finished parts, a lower bound of loss and price of the remaining parts.
    rests: Vec<f64>,
    /// At least the requested number of combinations have a loss of at most this.
    known: f64,
}

impl Bound {
    /// Finds prices that make the bound high. No combination is known yet.
    fn new(parts: &[Vec<Item>], budget: &Budget) -> Bound {
        let mut bound = Bound { budget: *budget, prices: [0.0; 3], rests: Vec::new(), known: f64::INFINITY };
        let (mut prices, mut highest) = ([0.0; 3], f64::NEG_INFINITY);
        let spread: f64 = parts
            .iter()
            .map(|part| {
                let losses = || part.iter().map(|item| item.loss);
                losses().fold(f64::NEG_INFINITY, f64::max) - losses().fold(f64::INFINITY, f64::min)
            })
            .sum();
        for step in 0..STEPS {
            let priced = |item: &Item| item.loss + dot(prices, budget.shares(*item));
            let cheapest = |part: &Vec<Item>| {
                part.iter().min_by(|a, b| priced(a).total_cmp(&priced(b))).copied().unwrap_or_default()
            };
            let total = parts.iter().map(cheapest).fold(Item::default(), Item::plus);
            let shares = budget.shares(total);
            let value = total.loss + dot(prices, shares) - prices.iter().sum::<f64>();
            if value > highest {
                (bound.prices, highest) = (prices, value);
            }
            // A subgradient. A cost without a limit has a share of 0, which would only lower its price below 0.
            let over = shares.map(|share| share - 1.0);
            let length = dot(over, over).sqrt().max(1e-9);
            let stride = spread.max(1e-9) * DECAY.powi(step as i32) / length;
            prices = std::array::from_fn(|i| (prices[i] + stride * over[i]).max(0.0));
        }
        let mut rests = vec![0.0];
        for part in parts.iter().rev() {
            let priced = part.iter().map(|item| item.loss + dot(bound.prices, budget.shares(*item)));
            rests.push(rests[rests.len() - 1] + priced.fold(f64::INFINITY, f64::min));
        }
        rests.reverse();
        bound.rests = rests;
        bound
    }

    /// A lower bound of the loss of a combination whose first `done` parts have this total.
    fn of(&self, total: &Item, done: usize) -> f64 {
        let paid = dot(self.prices, self.budget.shares(*total)) - self.prices.iter().sum::<f64>();
        total.loss + paid + self.rests[done]
    }

    /// Whether it may be among the best.
    fn may_be_good(&self, total: &Item, done: usize) -> bool {
        let room = ROUNDING * (1.0 + self.known.abs() + self.prices.iter().sum::<f64>());
        self.of(total, done) <= self.known + room
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(parts: &[Vec<Item>], picks: &[usize]) -> Item {
        parts.iter().zip(picks).fold(Item::default(), |sum, (part, &pick)| sum.plus(part[pick]))
    }

    /// The best combinations, found by trying all.
    fn all(parts: &[Vec<Item>], budget: &Budget) -> Vec<Choice> {
        let mut picks = vec![vec![]];
        for part in parts {
            let longer = |picks: &Vec<usize>| -> Vec<Vec<usize>> {
                (0..part.len()).map(|pick| picks.iter().copied().chain([pick]).collect()).collect()
            };
            picks = picks.iter().flat_map(longer).collect();
        }
        let choice = |picks: Vec<usize>| Choice { total: sum(parts, &picks), picks };
        let mut all: Vec<Choice> = picks.into_iter().map(choice).collect();
        all.retain(|choice| budget.allows(&choice.total));
        all.sort_by(|a, b| a.total.order(&b.total));
        all
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        // Few values, so that many combinations are equal in something.
        let item = (0..16u32, 0..9u64, 0..9u64, 0..9u32).prop_map(|(loss, parameters, macs, ms)| Item {
            loss: f64::from(loss) * 0.07,
            parameters,
            macs,
            ms: f64::from(ms) * 0.1,
        });
        proptest::collection::vec(item, 1..6)
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_trying_all(
            parts in proptest::collection::vec(items(), 1..6),
            parameters in 0..30u64,
            macs in 0..30u64,
            tenths in proptest::option::of(0..30u32),
            count in 1..5usize,
        ) {
            let ms = tenths.map_or(f64::INFINITY, |tenths| f64::from(tenths) * 0.1);
            let budget = Budget { parameters, macs, ms };
            let (found, all) = (choose(&parts, &budget, count), all(&parts, &budget));
            prop_assert_eq!(found.len(), all.len().min(count));
            for (i, (found_one, expected)) in found.iter().zip(&all).enumerate() {
                prop_assert_eq!(found_one.total.loss, expected.total.loss);
                prop_assert!(all.contains(found_one), "{:?}", found_one);
                prop_assert!(!found[..i].contains(found_one));
            }
        }
    }

    #[test]
    fn a_table_as_large_as_a_real_one_is_no_work() {
        let mut random = fastrand::Rng::with_seed(7);
        // Better ones cost more, with noise: the hard case.
        let mut item = |scale: f64| {
            let cost = random.f64();
            Item {
                loss: (1.0 - cost).powi(2) + 0.2 * random.f64(),
                parameters: (scale * cost * 1e6 * (0.7 + 0.6 * random.f64())) as u64,
                macs: (cost * 3e8 * (0.7 + 0.6 * random.f64())) as u64,
                ms: cost * 4.0 * (0.7 + 0.6 * random.f64()),
            }
        };
        let parts: Vec<Vec<Item>> =
            (0..10).map(|part| (0..30).map(|_| item(0.1 + 0.1 * f64::from(part))).collect()).collect();
        let budget = Budget { parameters: 2_000_000, macs: 900_000_000, ms: 15.0 };
        let found = choose(&parts, &budget, 3);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|choice| budget.allows(&choice.total)));
        assert!(found.windows(2).all(|pair| pair[0].total.loss <= pair[1].total.loss));
    }

    #[test]
    fn nothing_to_choose_is_no_choice() {
        let free = Budget { parameters: u64::MAX, macs: u64::MAX, ms: f64::INFINITY };
        assert_eq!(choose(&[], &free, 3).len(), 1);
        assert!(choose(&[vec![]], &free, 3).is_empty());
        let item = Item { parameters: 5, ..Item::default() };
        assert!(choose(&[vec![item]], &Budget { parameters: 4, ..free }, 3).is_empty());
        assert_eq!(least(&[vec![item], vec![item, Item::default()]]).parameters, 5);
    }
}
