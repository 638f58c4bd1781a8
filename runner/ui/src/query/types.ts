// What the types of SQL are to who shows their values.

const NUMBERS = /^(tinyint|smallint|int|integer|bigint|float|double|real|decimal|numeric)/i;

export const isNumber = (type: string | undefined) => NUMBERS.test(type ?? "");

export const isTime = (type: string | undefined) => /^(timestamp|date)/i.test(type ?? "");
