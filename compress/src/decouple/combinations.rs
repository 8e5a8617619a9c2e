//! Chooses one form for each layer, within the budget.

use std::collections::BTreeMap;

use super::{Asked, DecoupleConfig, FormCandidate, Separable};
use crate::cost;
use crate::error::{Error, Result};
use crate::explore::{Budget, Combination, Item, choose};
use crate::network::Graph;

/// The candidates of all layers and the shared budget.
struct Choices<'a> {
    layers: &'a [Vec<FormCandidate>],
    items: Vec<Vec<Item>>,
    budget: Budget,
    /// Parameters and multiply-accumulates of the layers that do not change.
    rest: (u64, u64),
}

/// The forms with the smallest unexplained variance within the budget, by layer. Also returns the combinations for a
/// figure: this one, the best one with the same projection in all layers, and the best one with the same form in all
/// layers.
///
/// The first of a layer's candidates is the dense layer.
pub(super) fn within_budget(
    graph: &Graph,
    layers: &[Vec<FormCandidate>],
    config: &DecoupleConfig,
) -> Result<(BTreeMap<String, Separable>, Vec<Combination>)> {
    let choices = Choices::new(graph, layers, config)?;
    let Some(best) = choices.best(&|_| true) else {
        let DecoupleConfig { max_parameters, max_macs, .. } = config;
        let problem = format!("{max_macs}: no combination with as few has at most {max_parameters} parameters");
        return Err(Error::Option { option: "--max-macs", problem });
    };
    let form = |(layer, &pick): (&Vec<FormCandidate>, &usize)| {
        Some((layer[pick].layer.clone(), layer[pick].form.clone()?))
    };
    let chosen = layers.iter().zip(&best).filter_map(form).collect();
    let mut all = vec![Combination { best: true, ..choices.combination("best of all".into(), &best) }];
    let kinds = [None].into_iter().chain(config.projections.iter().copied().map(Some));
    for projection in kinds {
        let name = projection.map_or("no projection".into(), |share| format!("projection {share}"));
        let of_kind = |one: &FormCandidate| one.asked.is_none_or(|asked| asked.projection == projection);
        if let Some(picks) = choices.best(&of_kind) {
            all.push(choices.combination(format!("best with {name}"), &picks));
        }
        let everywhere = |&multiplier: &f64| {
            let form = Asked { projection, multiplier };
            let picks = choices.best(&|one| one.asked == Some(form))?;
            Some(choices.combination(form.to_string(), &picks))
        };
        let affordable = config.multipliers.iter().filter_map(everywhere);
        all.extend(affordable.min_by(|a, b| a.unexplained.total_cmp(&b.unexplained)));
    }
    Ok((chosen, all))
}

impl<'a> Choices<'a> {
    /// Refuses a budget below the cheapest combination.
    fn new(graph: &Graph, layers: &'a [Vec<FormCandidate>], config: &DecoupleConfig) -> Result<Choices<'a>> {
        let item = |FormCandidate { unexplained, cost, .. }: &FormCandidate| Item {
            loss: *unexplained,
            parameters: cost.parameters,
            macs: cost.macs,
            ms: 0.0,
        };
        let items: Vec<Vec<Item>> = layers.iter().map(|layer| layer.iter().map(item).collect()).collect();
        let sum = |of: &dyn Fn(&Vec<Item>) -> u64| items.iter().map(of).sum::<u64>();
        let parameters = |layer: &Vec<Item>| layer.iter().map(|item| item.parameters).min().unwrap_or(0);
        let macs = |layer: &Vec<Item>| layer.iter().map(|item| item.macs).min().unwrap_or(0);
        let total = cost::total(graph, config.side_px, config.side_px);
        let rest = (total.parameters - sum(&|layer| layer[0].parameters), total.macs - sum(&|layer| layer[0].macs));
        let DecoupleConfig { max_parameters, max_macs, .. } = *config;
        for (option, most, least, what) in [
            ("--max-parameters", max_parameters, rest.0 + sum(&parameters), "parameters"),
            ("--max-macs", max_macs, rest.1 + sum(&macs), "multiply-accumulates"),
        ] {
            if least > most {
                let problem = format!("{most}: the cheapest combination has {least} {what}");
                return Err(Error::Option { option, problem });
            }
        }
        let budget = Budget { parameters: max_parameters - rest.0, macs: max_macs - rest.1, ms: f64::INFINITY };
        Ok(Choices { layers, items, budget, rest })
    }

    /// The best combination of candidates that are `wanted`, by layer. `None` if a layer has no such candidate, or if
    /// all combinations exceed the budget.
    fn best(&self, wanted: &dyn Fn(&FormCandidate) -> bool) -> Option<Vec<usize>> {
        let of_layer = |layer: &Vec<FormCandidate>| -> Vec<usize> {
            (0..layer.len()).filter(|&pick| wanted(&layer[pick])).collect()
        };
        let wanted: Vec<Vec<usize>> = self.layers.iter().map(of_layer).collect();
        let items: Vec<Vec<Item>> = self
            .items
            .iter()
            .zip(&wanted)
            .map(|(items, picks)| picks.iter().map(|&pick| items[pick]).collect())
            .collect();
        let choice = choose(&items, &self.budget, 1).into_iter().next()?;
        Some(wanted.iter().zip(choice.picks).map(|(picks, pick)| picks[pick]).collect())
    }

    fn combination(&self, name: String, picks: &[usize]) -> Combination {
        let chosen = || self.layers.iter().zip(picks).map(|(layer, &pick)| &layer[pick]);
        let form = |one: &FormCandidate| one.asked.map_or("dense".into(), |asked| asked.to_string());
        Combination {
            diverged: false,
            name,
            picks: chosen().map(|one| (one.layer.clone(), form(one))).collect(),
            unexplained: chosen().map(|one| one.unexplained).sum::<f64>() / picks.len().max(1) as f64,
            parameters: self.rest.0 + chosen().map(|one| one.cost.parameters).sum::<u64>(),
            macs: self.rest.1 + chosen().map(|one| one.cost.macs).sum::<u64>(),
            ms: None,
            best: false,
            checked: None,
        }
    }
}
