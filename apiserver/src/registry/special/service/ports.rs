//! What a write of a service wants of node ports: pure.

use api::field::Path;
use api::{Reason, Status, Value};
use kinds::tree::{at, enter, int, list, list_mut, put, text};

use super::{has_node_ports, health_check_port, invalid, needs_health_check, node_ports, wants_node_ports};
use crate::node_ports::{Refusal, Refused};

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The service's port at this index.
    Port(usize),
    HealthCheck,
}

/// What a write wants and gives up.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What each port is for, and its number; 0 is any.
    wishes: Vec<(Use, i64)>,
    /// Ports of the service, by index, and the wish whose number they get.
    shares: Vec<(usize, usize)>,
    pub(super) released: Vec<u16>,
    /// Refuses the write, once everything that is wanted can be had.
    refusal: Option<Status>,
}

impl Plan {
    /// Of a new service.
    pub(super) fn of_new(service: &Value) -> Self {
        let mut plan = Self::default();
        if has_node_ports(service) {
            plan.want_all(service);
        }
        if needs_health_check(service) {
            plan.want_health_check(service);
        }
        plan
    }

    /// Of a changed service.
    pub(super) fn of_changed(new: &Value, old: &Value) -> Self {
        let mut plan = Self::default();
        if has_node_ports(new) {
            plan.want_further(new, old);
        } else if has_node_ports(old) {
            plan.released = node_ports(old).collect();
        }
        if plan.refusal.is_some() {
            return plan;
        }
        match (needs_health_check(old), needs_health_check(new)) {
            (false, true) => plan.want_health_check(new),
            (true, false) => plan.released.extend(health_check_port(old)),
            _ => {}
        }
        plan
    }

    /// The numbers that are wanted; 0 is any.
    pub(super) fn numbers(&self) -> Vec<i64> {
        self.wishes.iter().map(|(_, number)| *number).collect()
    }

    /// Puts what has been given for the wishes into the service.
    ///
    /// # Errors
    /// What the write is refused for whatever is given.
    pub(super) fn fill(&mut self, service: &mut Value, given: &[i64]) -> Result<(), Status> {
        for (index, wish) in &self.shares {
            if let Some(port) = list_mut(enter(service, "spec"), "ports").nth(*index) {
                put(port, "nodePort", given[*wish]);
            }
        }
        let health_check = self.wishes.iter().zip(given).find(|((wish, _), _)| *wish == Use::HealthCheck);
        if let Some((_, given)) = health_check {
            put(enter(service, "spec"), "healthCheckNodePort", *given);
        }
        self.refusal.take().map_or(Ok(()), Err)
    }

    /// The refusal of a wish, as upstream words it.
    pub(super) fn refused(&self, service: &Value, refusal: Refusal) -> Status {
        let why = match refusal.why {
            Refused::Failed(status) => return *status,
            why => why,
        };
        let Some((wish, asked)) = self.wishes.get(refusal.at) else { return Status::internal(why.to_string()) };
        match wish {
            Use::Port(_) if *asked == 0 => Status::internal(format!("failed to allocate a nodePort: {why}")),
            Use::Port(index) => {
                let spec = Path::new("spec");
                let ports = spec.child("ports");
                let port = ports.index(*index);
                invalid(service, &port.child("nodePort"), *asked, &why.to_string())
            }
            Use::HealthCheck if *asked == 0 => {
                Status::internal(format!("failed to allocate a HealthCheck NodePort 0: {why}"))
            }
            Use::HealthCheck => {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
            }
        }
    }

    /// The place of the wish.
    fn want(&mut self, wish: Use, number: i64) -> usize {
        self.wishes.push((wish, number));
        self.wishes.len() - 1
    }

    fn want_health_check(&mut self, service: &Value) {
        self.want(Use::HealthCheck, int(at(service, "spec"), "healthCheckNodePort"));
    }

    /// One number serves all protocols of a port.
    fn want_all(&mut self, service: &Value) {
        let unasked = wants_node_ports(service);
        let ports: Vec<(i64, i64)> =
            list(at(service, "spec"), "ports").iter().map(|port| (int(port, "port"), int(port, "nodePort"))).collect();
        // A port, the number that is asked for it, and its wish.
        let mut shared: Vec<(i64, i64, usize)> = Vec::new();
        for (index, (port, asked)) in ports.iter().copied().enumerate() {
            if asked == 0 && !unasked {
                continue;
            }
            let known = shared.iter().find(|(own, ..)| *own == port).copied();
            let wish = match known {
                Some((_, number, wish)) if asked == 0 || asked == number => wish,
                Some(_) => self.want(Use::Port(index), asked),
                None => {
                    let mut others = ports.iter().filter(|(own, node_port)| *own == port && *node_port != 0);
                    let number = others.next().map_or(0, |(_, node_port)| *node_port);
                    let wish = self.want(Use::Port(index), number);
                    shared.push((port, number, wish));
                    wish
                }
            };
            self.shares.push((index, wish));
        }
    }

    fn want_further(&mut self, new: &Value, old: &Value) {
        let before: Vec<i64> = node_ports(old).map(i64::from).collect();
        let mut seen: Vec<(&str, i64)> = Vec::new();
        for (index, port) in list(at(new, "spec"), "ports").iter().enumerate() {
            let (protocol, asked) = (text(port, "protocol"), int(port, "nodePort"));
            if asked == 0 {
                if wants_node_ports(new) {
                    let wish = self.want(Use::Port(index), 0);
                    self.shares.push((index, wish));
                }
                continue;
            }
            if !before.contains(&asked) && !seen.iter().any(|(_, number)| *number == asked) {
                self.want(Use::Port(index), asked);
            }
            if seen.contains(&(protocol, asked)) {
                let message = format!("duplicate nodePort: {{{protocol} {asked}}}");
                self.refusal = Some(Status::new(Reason::Unknown(500), message));
                return;
            }
            seen.push((protocol, asked));
        }
        self.released =
            node_ports(old).filter(|port| !seen.iter().any(|(_, kept)| *kept == i64::from(*port))).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(kind: &str, ports: &Value) -> Value {
        json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}})
    }

    fn numbers_of(service: &Value) -> Vec<i64> {
        list(at(service, "spec"), "ports").iter().map(|port| int(port, "nodePort")).collect()
    }

    #[test]
    fn one_number_serves_all_protocols_of_a_port() {
        for (ports, wanted, given, filled) in [
            (json!([{"port": 1}, {"port": 2}, {"port": 1}]), vec![0, 0], vec![7, 8], vec![7, 8, 7]),
            (json!([{"port": 1}, {"port": 1, "nodePort": 5}]), vec![5], vec![5], vec![5, 5]),
            (json!([{"port": 1, "nodePort": 5}, {"port": 1, "nodePort": 6}]), vec![5, 6], vec![5, 6], vec![5, 6]),
            (json!([{"port": 1, "nodePort": 5}, {"port": 2, "nodePort": 5}]), vec![5, 5], vec![5, 5], vec![5, 5]),
        ] {
            let mut made = service("NodePort", &ports);
            let mut plan = Plan::of_new(&made);
            assert_eq!(plan.numbers(), wanted, "{ports}");
            plan.fill(&mut made, &given).unwrap();
            assert_eq!(numbers_of(&made), filled, "{ports}");
        }
        assert!(Plan::of_new(&service("ClusterIP", &json!([{"port": 1}]))).numbers().is_empty());
    }

    #[test]
    fn a_change_wants_what_is_new_and_gives_up_what_is_gone() {
        let old = service("NodePort", &json!([{"port": 1, "nodePort": 5}, {"port": 2, "nodePort": 6}]));
        for (kind, ports, wanted, released) in [
            ("NodePort", json!([{"port": 1, "nodePort": 5}, {"port": 2}]), vec![0], vec![6]),
            ("NodePort", json!([{"port": 1, "nodePort": 7}, {"port": 2, "nodePort": 6}]), vec![7], vec![5]),
            ("LoadBalancer", json!([{"port": 1, "nodePort": 6}, {"port": 2, "nodePort": 5}]), vec![], vec![]),
            ("ClusterIP", json!([{"port": 1}]), vec![], vec![5, 6]),
            ("ExternalName", json!([]), vec![], vec![5, 6]),
        ] {
            let plan = Plan::of_changed(&service(kind, &ports), &old);
            assert_eq!((plan.numbers(), plan.released), (wanted, released), "{kind} {ports}");
        }
    }

    #[test]
    fn a_number_twice_for_a_protocol_is_refused_after_what_comes_before() {
        let old = service("ClusterIP", &json!([]));
        let port = |protocol: &str, number: i64| json!({"protocol": protocol, "nodePort": number});
        let both = json!([port("TCP", 5), port("UDP", 5)]);
        assert_eq!(Plan::of_changed(&service("NodePort", &both), &old).numbers(), [5]);
        let twice = json!([port("TCP", 5), port("TCP", 5), port("TCP", 6)]);
        let mut new = service("NodePort", &twice);
        let mut plan = Plan::of_changed(&new, &old);
        assert_eq!(plan.numbers(), [5]);
        assert_eq!(plan.fill(&mut new, &[5]).unwrap_err().message, "duplicate nodePort: {TCP 5}");
    }

    #[test]
    fn refusals_are_upstreams() {
        let mut made = service("LoadBalancer", &json!([{"port": 1}, {"port": 2, "nodePort": 5}]));
        made["spec"]["externalTrafficPolicy"] = json!("Local");
        let plan = Plan::of_new(&made);
        made["spec"]["healthCheckNodePort"] = json!(9);
        let asked = Plan::of_new(&made);
        let internal = |text: &str| format!("Internal error occurred: {text}");
        for (plan, at, why, expected) in [
            (&plan, 0, Refused::Full, internal("failed to allocate a nodePort: range is full")),
            (
                &plan,
                1,
                Refused::Allocated,
                "Service \"s\" is invalid: spec.ports[1].nodePort: Invalid value: 5: provided port is already allocated"
                    .to_owned(),
            ),
            (&plan, 2, Refused::Full, internal("failed to allocate a HealthCheck NodePort 0: range is full")),
            (
                &asked,
                2,
                Refused::Allocated,
                internal("failed to allocate requested HealthCheck NodePort 9: provided port is already allocated"),
            ),
            (&plan, 0, Refused::Failed(Box::new(Status::internal("disk"))), internal("disk")),
        ] {
            assert_eq!(plan.refused(&made, Refusal { at, why }).message, expected);
        }
    }
}
