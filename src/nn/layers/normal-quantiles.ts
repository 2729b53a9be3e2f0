/** The density of the standard normal distribution. */
function density(x: number): number {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

/**
 * The standard normal distribution function minus one half, by its series `φ(x) (x + x³/3 + x⁵/15 + …)`: all terms have the sign of x,
 * so nothing cancels. For |x| below about 6.
 */
function centralProbability(x: number): number {
  let term = x;
  let sum = x;
  for (let odd = 3; Math.abs(term) > 1e-17 * Math.abs(sum); odd += 2) {
    term *= (x * x) / odd;
    sum += term;
  }
  return density(x) * sum;
}

/**
 * The mid-quantiles of the standard normal distribution: `q[i]` has the probability `(i + 0.5) / count` below it. They are symmetric
 * about 0.
 */
export function normalMidQuantiles(count: number): Float32Array {
  const quantiles = new Float32Array(count);
  let x = 0;
  for (let index = count >> 1; index < count; index++) {
    const wanted = (index + 0.5) / count - 0.5;
    // Newton's method from the quantile before: the distribution function is concave here, so it never overshoots far.
    for (let step = 0; step < 50; step++) {
      const change = (wanted - centralProbability(x)) / density(x);
      x += change;
      if (Math.abs(change) < 1e-15 * (1 + x)) break;
    }
    quantiles[index] = x;
    // The middle one of an odd number is 0 and its own mirror image.
    quantiles[count - 1 - index] = count - 1 - index === index ? 0 : -x;
  }
  return quantiles;
}
