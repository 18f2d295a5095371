/**
 * How large a joined file may be, whichever driver joins it.
 * Holding a join to them is left to the drivers, which know the result before it is written, or as it is.
 */

/** Bytes of a result, where the host does not say: as much as an artifact may have by default. */
export const RESULT_BYTES_DEFAULT: number = 5 * 2 ** 30;
/** Hours that a result may last. A silent packet costs memory too, and one fragment a year later is a typing error. */
export const RESULT_HOURS_MAX = 24;
