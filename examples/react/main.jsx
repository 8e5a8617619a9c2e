import { createRoot } from "react-dom/client";
import { Objects } from "./Objects.jsx";

createRoot(document.querySelector("main")).render(<Objects src="cat.jpg" />);
