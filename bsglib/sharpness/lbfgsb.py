"""L-BFGS-B on tensors: vectors stay on the device; the host has scalars and small matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from math import copysign, sqrt

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[float, Tensor]]

CORRECTIONS, LINE_SEARCHES = 10, 20  # scipy's defaults
DECREASE, CURVATURE, WIDTH = 1e-3, 0.9, 0.1  # of the line search
BREAKPOINTS = 2**18  # of the Cauchy search, processed at a time
EPS = torch.finfo(torch.float64).eps


def minimize(objective: Objective, start: Tensor, bounds: Tensor, max_iter: int) -> tuple[int, str]:
    """Minimize in the box |z_i| <= bounds_i by the steps of scipy's L-BFGS-B.

    Source: Byrd, Lu, Nocedal and Zhu 1995, with the subspace step of Morales and Nocedal 2011 and
    the line search of Moré and Thuente 1994; no tolerances. The breakpoints of the Cauchy search
    are sorted and summed on the device instead of taken from a heap one by one.

    Args:
        objective: returns value and gradient [p] at a point [p].
        start: initial point in the box, float64 [p].
        bounds: half-widths of the box, float64 [p].
        max_iter: maximum number of iterations.

    Returns:
        the number of iterations made and the reason to stop, in scipy's words.
    """
    z, past, iterations = start.clone(), _Past(start), 0
    value, gradient = objective(z)
    if _at_rest(z, gradient, bounds):
        return 0, "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL"
    while True:
        target = _target(z, gradient, bounds, past)
        found = None
        if target is not None:
            found = _searched(objective, z, value, gradient, target, bounds, first=not iterations)
        if target is None or found is None:
            if not len(past.steps):
                return iterations, "ABNORMAL: "
            past = _Past(start)  # the curvature misled: go on without it
            continue
        step, new_value, new_gradient = found
        moved = step * (target - z)
        iterations += 1
        if iterations >= max_iter:
            return iterations, "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT"
        new = target if step == 1 else (z + moved).clamp(-bounds, bounds)
        if _at_rest(new, new_gradient, bounds):
            return iterations, "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL"
        if not new_value < value:
            return iterations, "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH"
        past.remember(moved, new_gradient - gradient, float(gradient @ moved))
        z, value, gradient = new, new_value, new_gradient


class _Past:
    """The last steps s and changes y of the gradient: B = theta I - W' M W, W = (y; theta s)."""

    def __init__(self, like: Tensor):
        self.steps = self.changes = self.rows = like.new_empty(0, len(like))
        self.middle, self.theta = like.new_empty(0, 0), 1.0

    def remember(self, step: Tensor, change: Tensor, slope: float) -> None:
        """Take one more step into account, unless the curvature along it is not positive."""
        curvature = float(step @ change)
        if curvature <= EPS * -slope:
            return
        keep = slice(1 - CORRECTIONS, None) if len(self.steps) == CORRECTIONS else slice(None)
        self.steps = torch.cat([self.steps[keep], step[None]])
        self.changes = torch.cat([self.changes[keep], change[None]])
        self.theta = float(change @ change) / curvature
        self.rows = torch.cat([self.changes, self.theta * self.steps])
        sy = (self.steps @ self.changes.T).cpu()
        below = sy.tril(-1)
        blocks = [
            torch.cat([-sy.diagonal().diag(), below.T], 1),
            torch.cat([below, self.theta * (self.steps @ self.steps.T).cpu()], 1),
        ]
        self.middle = torch.linalg.inv(torch.cat(blocks)).to(step.device)


def _at_rest(z: Tensor, gradient: Tensor, bounds: Tensor) -> bool:
    return not bool(((z - gradient).clamp(-bounds, bounds) - z).any())


def _target(z: Tensor, gradient: Tensor, bounds: Tensor, past: _Past) -> Tensor | None:
    """Minimize the quadratic model in the box; None where rounding has spoilt it."""
    cauchy, free = _cauchy(z, gradient, bounds, past)
    if not len(past.steps) or not bool(free.any()):
        return cauchy
    theta, rows, middle = past.theta, past.rows, past.middle
    moved = cauchy - z
    rest = -(gradient + theta * moved - (middle @ (rows @ moved)) @ rows) * free
    rows = rows * free
    inner = torch.eye(len(middle), dtype=middle.dtype, device=middle.device)
    inner = inner - middle @ (rows @ rows.T) / theta
    weights, singular = torch.linalg.solve_ex(inner, middle @ (rows @ rest))
    newton = rest / theta + (weights @ rows) / theta**2
    if int(singular) or not bool(newton.isfinite().all()):
        return None
    target = (cauchy + newton).clamp(-bounds, bounds)
    if float((target - z) @ gradient) <= 0:
        return target
    room = torch.where(newton > 0, bounds - cauchy, -bounds - cauchy) / newton  # inf, NaN: no limit
    share = min(1.0, float(room[newton != 0].min()))
    return (cauchy + share * newton).clamp(-bounds, bounds)


def _cauchy(z: Tensor, gradient: Tensor, bounds: Tensor, past: _Past) -> tuple[Tensor, Tensor]:
    """The model's first minimizer along the projected gradient, and which coordinates are free."""
    wall = torch.where(gradient > 0, -bounds, bounds)
    reach = torch.where(gradient == 0, torch.inf, (z - wall) / gradient)  # breakpoints
    direction = torch.where(reach > 0, -gradient, 0.0)
    moving = ((reach > 0) & (gradient != 0)).nonzero()[:, 0]
    order = moving[reach[moving].argsort()]
    rows, middle, theta = past.rows, past.middle, past.theta
    squares = direction @ direction  # of the coordinates that still move
    slope = rows @ direction  # W d of those
    fixed = torch.zeros_like(slope)  # W (z(t) - z) of those at their wall
    least = EPS * (theta * squares - slope @ middle @ slope)  # of the second derivative
    begin, end = reach.new_zeros(1), None
    for block in order.split(BREAKPOINTS) if len(order) else ():
        t, g, w = reach[block], gradient[block], rows[:, block]
        gone, bent, kept = (g * g).cumsum(0), (w * g).cumsum(1), (w * (-g * t)).cumsum(1)
        start = torch.cat([begin, t[:-1]])  # of the segment that ends at this breakpoint
        left = squares - _before(gone)
        p = slope[:, None] + _before(bent)
        c = fixed[:, None] + _before(kept) + start * p
        first = -left + theta * start * left - (p * (middle @ c)).sum(0)
        second = (theta * left - (p * (middle @ p)).sum(0)).clamp_min(least)
        ahead = -first / second
        stops = (ahead < t - start).nonzero()
        if len(stops):
            place = int(stops[0])
            end = start[place] + ahead[place].clamp_min(0)
            break
        squares, slope, fixed = squares - gone[-1], slope + bent[:, -1], fixed + kept[:, -1]
        begin = t[-1:]
    if end is None:
        end = begin[0]
    free = reach > end
    return torch.where(free, z + end * direction, torch.where(direction == 0, z, wall)), free


def _before(sums: Tensor) -> Tensor:
    """Shift running sums along the last dimension by one, to what they were before each place."""
    return torch.cat([torch.zeros_like(sums[..., :1]), sums[..., :-1]], -1)


Found = tuple[float, float, Tensor]  # step length, value and gradient there


def _searched(
    objective: Objective,
    z: Tensor,
    value: float,
    gradient: Tensor,
    target: Tensor,
    bounds: Tensor,
    *,
    first: bool,
) -> Found | None:
    """Search the line from z to the target; None if it does not descend or takes too long."""
    direction = target - z
    slope, longest = float(gradient @ direction), 1.0
    if not slope < 0:
        return None
    if not first:
        room = torch.where(direction > 0, bounds - z, -bounds - z) / direction
        longest = min(1e10, max(1.0, float(room[direction != 0].min())))
    search, step = _LineSearch(value, slope, longest), 1.0
    for _ in range(LINE_SEARCHES):
        new_value, new = objective(
            target if step == 1 else (z + step * direction).clamp(-bounds, bounds)
        )
        step, done = search.next(step, new_value, float(new @ direction))
        if done:
            return step, new_value, new
    return None


@dataclass
class _Trial:
    """A step length with value and slope there."""

    step: float
    value: float
    slope: float


class _LineSearch:
    """Moré and Thuente's search for sufficient decrease and small slope (MINPACK-2, dcsrch)."""

    def __init__(self, value: float, slope: float, longest: float):
        self.value, self.slope, self.longest = value, slope, longest
        self.best, self.other = _Trial(0.0, value, slope), _Trial(0.0, value, slope)
        self.bracketed, self.decreased = False, False
        self.low, self.high = 0.0, 5.0
        self.width, self.width_before = longest, 2 * longest

    def next(self, step: float, value: float, slope: float) -> tuple[float, bool]:
        """Return the next step length, or the given one and that it is taken."""
        gain = DECREASE * self.slope
        enough = value <= self.value + step * gain
        self.decreased |= enough and slope >= 0
        if self.bracketed and (
            not self.low < step < self.high or self.high - self.low <= WIDTH * self.high
        ):
            return step, True  # rounding leaves nothing to gain
        if step == self.longest and enough and slope <= gain:
            return step, True
        if enough and abs(slope) <= CURVATURE * -self.slope:
            return step, True
        tilt = gain if not self.decreased and not enough and value <= self.best.value else 0.0
        trials = self.best, self.other, _Trial(step, value, slope)
        for trial in trials:  # of the value less the decrease asked for, where that helps
            trial.value, trial.slope = trial.value - trial.step * tilt, trial.slope - tilt
        step = self._shortened(trials[2])
        for trial in (self.best, self.other):
            trial.value, trial.slope = trial.value + trial.step * tilt, trial.slope + tilt
        if self.bracketed:
            if abs(self.other.step - self.best.step) >= 0.66 * self.width_before:
                step = self.best.step + 0.5 * (self.other.step - self.best.step)
            self.width_before = self.width
            self.width = abs(self.other.step - self.best.step)
            self.low, self.high = sorted((self.best.step, self.other.step))
        else:
            self.low, self.high = (step + k * (step - self.best.step) for k in (1.1, 4.0))
        step = min(max(step, 0.0), self.longest)
        narrow = self.high - self.low <= WIDTH * self.high
        if self.bracketed and (not self.low < step < self.high or narrow):
            step = self.best.step
        return step, False

    def _shortened(self, new: _Trial) -> float:
        """Take a trial into the interval and return a safeguarded step (MINPACK-2, dcstep)."""
        best, away = self.best, new.step - self.best.step
        opposite = new.slope * copysign(1.0, best.slope) < 0
        theta = 3 * (best.value - new.value) / away + best.slope + new.slope
        gamma = copysign(_root(theta, best.slope, new.slope), away)
        if new.value > best.value:  # a minimum between the two
            ratio = (gamma - best.slope + theta) / (2 * gamma - best.slope + new.slope)
            secant = (best.value - new.value) / away + best.slope
            cubic = best.step + ratio * away
            quadratic = best.step + best.slope / secant / 2 * away
            near = abs(cubic - best.step) <= abs(quadratic - best.step)
            step = cubic if near else cubic + (quadratic - cubic) / 2
        elif opposite or abs(new.slope) < abs(best.slope):
            ratio = (-gamma - new.slope + theta) / (-2 * gamma - new.slope + best.slope)
            cubic = new.step - ratio * away
            quadratic = new.step - new.slope / (new.slope - best.slope) * away
            if not opposite and (ratio >= 0 or gamma == 0):  # the cubic has no minimum ahead
                cubic = self.high if away > 0 else self.low
            far = abs(cubic - new.step) > abs(quadratic - new.step)
            step = cubic if far else quadratic
            if not opposite and self.bracketed:
                step = quadratic if far else cubic
                limit = new.step + 0.66 * (self.other.step - new.step)
                step = min(limit, step) if away > 0 else max(limit, step)
            elif not opposite:
                step = min(max(step, self.low), self.high)
        elif self.bracketed:
            step = self._towards_other(new)
        else:
            step = self.high if away > 0 else self.low
        self.bracketed |= opposite or new.value > best.value
        if new.value > best.value:
            self.other = new
        else:
            self.other = best if opposite else self.other
            self.best = new
        return step

    def _towards_other(self, new: _Trial) -> float:
        """Return the minimizer of the cubic through a trial and the other end of the interval."""
        other, away = self.other, self.other.step - new.step
        theta = 3 * (new.value - other.value) / away + other.slope + new.slope
        gamma = copysign(_root(theta, other.slope, new.slope), away)
        ratio = (gamma - new.slope + theta) / (2 * gamma - new.slope + other.slope)
        return new.step + ratio * away


def _root(theta: float, *slopes: float) -> float:
    size = max(abs(theta), *map(abs, slopes))
    first, second = slopes
    return size * sqrt(max(0.0, (theta / size) ** 2 - first / size * (second / size)))
