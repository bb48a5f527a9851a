/** Name labels, each drawn once to its own small canvas: text is the dearest thing on a 2D canvas. */

const FONT_PX = 12;
const PADDING_PX = 4;
const HEIGHT_PX = 18;
const MOST = 500;

const CELL_PX = 6;

/** Which parts of the screen hold a name already, on a coarse grid. */
export class Occupied {
  readonly #cells = new Set<number>();

  /** Takes a rectangle of CSS pixels if nobody has any of it. */
  take(x: number, y: number, width: number, height: number): boolean {
    const cells: number[] = [];
    for (let row = Math.floor(y / CELL_PX); row <= (y + height) / CELL_PX; row++) {
      for (let column = Math.floor(x / CELL_PX); column <= (x + width) / CELL_PX; column++) {
        const cell = row * 100_003 + column;
        if (this.#cells.has(cell)) return false;
        cells.push(cell);
      }
    }
    for (const cell of cells) this.#cells.add(cell);
    return true;
  }
}

export class LabelSprites {
  readonly #sprites = new Map<string, HTMLCanvasElement>();
  #ratio = 1;

  /**
   * Draws `text` on a plate of `color` with its lower left corner at (x, y), in CSS pixels; with `occupied` only
   * where no other name stands.
   */
  draw(
    context: CanvasRenderingContext2D,
    text: string,
    color: string,
    x: number,
    y: number,
    ratio: number,
    occupied?: Occupied,
  ): void {
    if (ratio !== this.#ratio || this.#sprites.size > MOST) {
      this.#sprites.clear();
      this.#ratio = ratio;
    }
    const key = `${color} ${text}`;
    let sprite = this.#sprites.get(key);
    if (!sprite) {
      sprite = plate(text, color, ratio);
      this.#sprites.set(key, sprite);
    }
    const height = sprite.height / ratio;
    if (occupied && !occupied.take(x, y - height, sprite.width / ratio, height)) return;
    // whole device pixels keep the letters sharp
    const left = Math.round(x * ratio) / ratio;
    const top = Math.round((y - height) * ratio) / ratio;
    context.drawImage(sprite, left, top, sprite.width / ratio, height);
  }
}

function plate(text: string, color: string, ratio: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  const font = `600 ${FONT_PX}px system-ui, sans-serif`;
  context.font = font;
  const width = Math.ceil(context.measureText(text).width) + 2 * PADDING_PX;
  canvas.width = Math.ceil(width * ratio);
  canvas.height = Math.ceil(HEIGHT_PX * ratio);
  context.scale(ratio, ratio);
  context.fillStyle = color;
  context.beginPath();
  context.roundRect(0, 0, width, HEIGHT_PX, 3);
  context.fill();
  context.font = font;
  context.textBaseline = "middle";
  context.fillStyle = inkOn(color);
  context.fillText(text, PADDING_PX, HEIGHT_PX / 2 + 0.5);
  return canvas;
}

/** Black or white, whichever contrasts more with a #rrggbb colour (WCAG relative luminance). */
export function inkOn(color: string): "#000000" | "#ffffff" {
  const channel = (from: number): number => {
    const value = Number.parseInt(color.slice(from, from + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const luminance = 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "#000000" : "#ffffff";
}
