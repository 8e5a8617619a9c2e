import { Objects } from "./Objects.jsx";

export default function Page() {
  return <Objects src="cat.jpg" />;
}
